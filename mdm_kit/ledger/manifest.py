"""The manifest: what a merged folder was made of, by which method, and the digest of every part.

`mdm_manifest.json` is canonical JSON. Its `digest` covers everything else in it, so an edit that
does not know the rule shows; it is a checksum and no signature.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import canonical, digest
from mdm_kit.words import shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter

MANIFEST_NAME = "mdm_manifest.json"
MANIFEST_SCHEMA: Literal["mdm_kit/manifest/1"] = "mdm_kit/manifest/1"
MAX_MANIFEST_NBYTES = 64 << 20
"""Refused above this before parsing; a merge of 100,000 tensors stays below."""


@dataclass(frozen=True, slots=True)
class _Text:
    """Text of a form. pydantic, which is slow to import, is asked only when a manifest is read."""

    pattern: str
    max_length: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        limits = {} if self.max_length is None else {"max_length": self.max_length}
        return {**handler(source), "pattern": self.pattern, **limits}


Sha256 = Annotated[str, _Text(r"^sha256:[0-9a-f]{64}$")]
Blake3 = Annotated[str, _Text(r"^blake3:[0-9a-f]{64}$")]
ShardName = Annotated[str, _Text(r"^model(-[0-9]{5}-of-[0-9]{5})?\.safetensors$")]
FileName = Annotated[str, _Text(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?$", 255)]


class _Entry:
    """Read strictly: no field more, none less, nothing converted."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class SourceFile(_Entry):
    """A weight file of a source. `status` is `verified` when all its bytes were hashed here,
    `declared` when its digest is only what the Hub says, None when there is no digest of the bytes.
    """

    name: str
    nbytes: int
    header_sha256: Sha256
    sha256: Sha256 | None = None
    status: Literal["declared", "verified"] | None = None


@dataclass(frozen=True)
class SourceEntry(_Entry):
    """A model of the merge, in the order of the recipe; `reference` holds no path.

    `status` is `removed` where the model was taken out of the weights but not folded anew without
    it. `kept` is the file of the bundle that holds all its bits.
    """

    name: str
    role: Literal["base", "model"]
    reference: str
    repo: str | None
    commit: str | None
    files: list[SourceFile]
    parameters: dict[str, Any] = field(default_factory=dict)
    status: Literal["merged", "removed"] = "merged"
    kept: FileName | None = None


@dataclass(frozen=True)
class TensorEntry(_Entry):
    """An output tensor: what its bytes are and the rule that made them.

    `weights` are what each model's delta was multiplied by, in the order of the ledger's models,
    where they follow from inner products or the weights were patched.
    """

    shape: list[int]
    dtype: str
    blake3: Blake3
    rule: str
    shard: str
    weights: list[float] | None = None


@dataclass(frozen=True)
class GroupEntry(_Entry):
    """Tensors that were made orthogonal together.

    `q` are the energies of the components, in the order of the models; `dependent` names the models
    whose delta lies in the span of others; `largest_cosine` is between two deltas. Components are
    orthogonal but for a cosine of about N·2⁻⁵³·`condition`, κ = max ‖d_i‖²/q_i.
    """

    tensors: list[str]
    q: list[float]
    dependent: list[str]
    largest_cosine: float
    condition: float


@dataclass(frozen=True)
class LedgerEntry(_Entry):
    """The ledger file: inner products of the models' deltas, one row of its `gram` per tensor.

    A row is a lower triangle, (0,0), (1,0), (1,1), ..., of the `models` in this order. `exact`
    names the tensors whose sums are compensated because their group is nearly dependent; their
    plain sums are the rows of `plain`. `wide` are those whose deltas were formed in float64.
    """

    file: str
    sha256: Sha256
    models: list[str]
    tensors: list[str]
    exact: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileEntry(_Entry):
    """A file of the folder and its digest."""

    nbytes: int
    sha256: Sha256


@dataclass(frozen=True)
class Precision(_Entry):
    """Dtypes of the arithmetic that was used, by torch name, and what the recipe asked for."""

    compute: list[str]
    dtype: str | None
    out_dtype: str | None


Mode = Literal["rebuild", "exact", "subtract"]


@dataclass(frozen=True)
class Certificate(_Entry):
    """What was taken out, how, and what of it is left.

    `parent` is the digest of the manifest it was taken out of. `leak` is how far the weights are
    from those that never held the removed models, as a share of the merged change; 0 for a rebuild,
    None where nobody measured it. `residue` is the largest coefficient of any tensor that a removed
    model's raw change still has. `weights` is the digest over the shards that were written, `check`
    the command that proves it.
    """

    parent: Sha256
    removed: list[str]
    mode: Mode
    leak: float | None
    residue: dict[str, float]
    weights: Sha256
    check: str


@dataclass(frozen=True)
class Event(_Entry):
    """One step of the folder's history; `parent` is the digest of the event before it.

    `sections` has the digest of every other part of the manifest as it was after the event.
    """

    operation: Literal["merge", "add", "unmerge"]
    time: str
    plan: Sha256
    sections: dict[str, Sha256]
    parent: Sha256 | None = None
    added: list[str] = field(default_factory=list)
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Manifest(_Entry):
    """What `mdm_manifest.json` holds.

    `undo` lists how a model can be taken out of this merge.
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

    def content(self) -> dict[str, Any]:
        """Return what the file says, but for its own digest."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

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
        """Return the digest of every part but the history, as an event records them."""
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
    """Return the digest of every part of a manifest's content but its history."""
    return {name: digest(part) for name, part in content.items() if name != "history"}


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
    return f"{parts} is not what the history says" if parts else "its history was changed"


@cache
def _reader() -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def plain(value: Any) -> Any:
    """Return entries as dictionaries, all the way down, as the file's JSON has them."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_MANIFEST_NBYTES:
        raise IntegrityError(
            f"{MANIFEST_NAME} should have at most {MAX_MANIFEST_NBYTES} bytes, found {len(raw)}"
        )
    try:
        content = json.loads(raw, parse_constant=_no_constant)
        canonical(content)  # text that no UTF-8 can hold
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{MANIFEST_NAME} is not JSON: {shown(str(error))}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{MANIFEST_NAME} should hold a JSON object")
    return content
