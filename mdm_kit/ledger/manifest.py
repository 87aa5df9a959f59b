"""The manifest: what a merged folder was made of, by which method, and the digest of every part.

`mdm_manifest.json` is canonical JSON. Its `digest` covers everything else in it, so an edit that
does not know the rule shows; it is a checksum and no signature.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import canonical, digest
from mdm_kit.ledger.entries import (
    LEFT_OUT,
    PASSED,
    DeltasEntry,
    Entry,
    Event,
    FileEntry,
    FileName,
    GroupEntry,
    LedgerEntry,
    Mode,
    PartsEntry,
    Precision,
    Sha256,
    ShardName,
    SourceEntry,
    StageEntry,
    SumsEntry,
    TensorEntry,
)
from mdm_kit.words import shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MANIFEST_NAME = "mdm_manifest.json"
MANIFEST_SCHEMA: Literal["mdm_kit/manifest/1"] = "mdm_kit/manifest/1"
MAX_MANIFEST_NBYTES = 64 << 20
"""Refused above this before parsing; a merge of 100,000 tensors stays below."""
MAX_DIGITS = 40
"""Of a whole number. Larger ones are nothing's count, and beyond float64 soon."""
_OPTIONAL = ("deltas", "sums", "parts", "stages")
"""Left out of the file where there is nothing to say."""
_UNRECORDED = ("history", "deltas")


@dataclass(frozen=True)
class Manifest(Entry):
    """What `mdm_manifest.json` holds.

    `undo` lists how a model can be taken out of this merge. `deltas` says where the kept models of
    a published merge lie; the file leaves it out where they lie beside the weights. `sums` is there
    for methods that merge as sums over models, `stages` for a recipe of several documents; the
    sources are then the models of all of them.
    """

    schema: Literal["mdm_kit/manifest/1"]
    tool: str
    recipe: str
    recipe_sha256: Sha256
    plan: Sha256
    seed: int
    method: str
    parameters: dict[str, Any]
    precision: Precision
    libraries: dict[str, str]
    device: str
    sources: list[SourceEntry]
    tensors: dict[str, TensorEntry]
    groups: dict[str, GroupEntry]
    ledger: LedgerEntry | None
    findings: list[str]
    undo: list[Mode]
    shards: dict[ShardName, FileEntry]
    files: dict[FileName, FileEntry]
    history: list[Event]
    deltas: DeltasEntry | None = None
    sums: SumsEntry | None = None
    parts: PartsEntry | None = None
    stages: list[StageEntry] | None = None

    @property
    def shared(self) -> dict[str, TensorEntry]:
        """The tensors that every model was to have a part in."""
        partial = self.parts.without if self.parts else {}
        return {n: t for n, t in self.tensors.items() if t.rule != PASSED and n not in partial}

    @property
    def is_whole(self) -> bool:
        """Whether every model has a part in every tensor, so that fewer of them have too."""
        return len(self.shared) == len(self.tensors)

    def content(self) -> dict[str, Any]:
        """Return what the file says, but for its own digest."""
        said = {f.name: plain(getattr(self, f.name)) for f in fields(self)}
        return {n: part for n, part in said.items() if part is not None or n not in _OPTIONAL}

    def published_with(self, deltas: DeltasEntry | None) -> Manifest:
        """Return the manifest that says where its kept models lie once they are published.

        Nothing in its history changes: the digests of the kept models stay what they were.
        """
        return replace(self, deltas=deltas)

    def to_bytes(self) -> bytes:
        """Return the file's bytes: canonical JSON, its own digest included."""
        content = self.content()
        return canonical({**content, "digest": digest(content)}) + b"\n"

    @property
    def digest(self) -> str:
        """The digest the file states."""
        return digest(self.content())

    @property
    def patched(self) -> Mode | None:
        """How the weights were patched, None where they were folded from the models as they are."""
        removed = any(s.status == "removed" for s in self.sources)
        certificate = self.history[-1].certificate
        return certificate.mode if removed and certificate else None

    def sections(self) -> dict[str, str]:
        """Return the digest of every part but history and `deltas`, as an event records them."""
        return sections_of(self.content())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Manifest:
        """Read a manifest.

        Raises `IntegrityError` where it is no JSON, has another schema, lacks or adds a field, or
        its digest does not fit its content.
        """
        content = _parse(raw)
        claimed = content.pop("digest", None)
        if content.get("schema") != MANIFEST_SCHEMA:
            raise IntegrityError(
                f"{MANIFEST_NAME} should have the schema {MANIFEST_SCHEMA!r}, found "
                f"{content.get('schema')!r}; a newer mdm_kit may be able to read it"
            )
        if claimed != digest(content):
            raise IntegrityError(
                f"{MANIFEST_NAME} was changed after it was written: "
                f"{_what_changed(content)}; get the original file again"
            )
        from pydantic import ValidationError

        try:
            manifest: Manifest = _reader().validate_json(canonical(content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise IntegrityError(
                f"{MANIFEST_NAME} is not a manifest: {where}: {first['msg']}"
            ) from None
        if not manifest.history:
            raise IntegrityError(f"{MANIFEST_NAME} is not a manifest: its history is empty")
        return manifest


def sections_of(content: dict[str, Any]) -> dict[str, str]:
    """Return the digest of every part of a manifest's content that an event records.

    Not of its history, and not of where its kept models lie: that is known only afterwards.
    """
    return {name: digest(part) for name, part in content.items() if name not in _UNRECORDED}


def _what_changed(content: dict[str, Any]) -> str:
    """Say which part of a manifest does not fit the last event of its history."""
    history = content.get("history")
    last = history[-1] if isinstance(history, list) and history else None
    stated = last.get("sections") if isinstance(last, dict) else None
    if not isinstance(stated, dict):
        return "its history is not the one it was written with"
    found = sections_of(content)
    changed = sorted(n for n in {*stated, *found} if stated.get(n) != found.get(n))
    parts = ", ".join(shown(name, 40) for name in changed)
    if parts:
        return f"{parts} is not what the history says"
    return "its history or the place of its kept models was changed"


@cache
def _reader() -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def plain(value: Any) -> Any:
    """Return entries as dictionaries, all the way down, as the file's JSON has them."""
    if is_dataclass(value):
        said = [(f, getattr(value, f.name)) for f in fields(value)]
        return {f.name: plain(v) for f, v in said if v is not None or LEFT_OUT not in f.metadata}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is larger than any of a manifest")
    return int(digits)


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_MANIFEST_NBYTES:
        raise IntegrityError(
            f"{MANIFEST_NAME} should have at most {MAX_MANIFEST_NBYTES} bytes, found {len(raw)}"
        )
    try:
        content = json.loads(raw, parse_constant=_no_constant, parse_int=_whole)
        canonical(content)  # text that no UTF-8 can hold
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{MANIFEST_NAME} is not JSON: {shown(str(error))}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{MANIFEST_NAME} should hold a JSON object")
    return content
