"""What a kept model's file says about itself, in its `__metadata__`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.safe_path import plain_name
from mdm_kit.sources.strict_json import strict_json
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "mdm_kit/deltas/1"

TENSOR, HEAD, SIDE = "t/", "h/", "f/"
"""Prefixes of the file's entries: a tensor's stream, a weight file's header or index, a side file.
"""

NO_DIGEST = "0" * 64
"""Stands where a BLAKE3 will be: the header's size is needed before any tensor was read."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Identity:
    """`fingerprint` is what the source said of itself, `content` what a folder of it would say."""

    fingerprint: str
    content: str


@dataclass(frozen=True, slots=True)
class KeptTensor:
    """Whether a tensor is coded against the base's, and the BLAKE3 (hex) of its bytes."""

    against_base: bool
    blake3: str = NO_DIGEST


@dataclass(frozen=True, slots=True)
class Facts:
    """A kept model: what it was, what it is coded against, its weight files' sizes, its tensors."""

    source: Identity
    base: Identity | None
    files: Mapping[str, int]
    index: str | None
    tensors: Mapping[str, KeptTensor] = field(repr=False)

    def to_metadata(self) -> dict[str, str]:
        """Return the file's `__metadata__`; its length does not depend on the digests."""
        value = {
            "source": [self.source.fingerprint, self.source.content],
            "base": [self.base.fingerprint, self.base.content] if self.base else None,
            "files": dict(self.files),
            "index": self.index,
            "tensors": {
                n: ("+" if t.against_base else "=") + t.blake3 for n, t in self.tensors.items()
            },
        }
        return {"format": FORMAT, "kept": json.dumps(value, separators=(",", ":"))}


def parse_facts(source: str, file: str, metadata: Mapping[str, str]) -> Facts:
    """Return the facts in a file's `__metadata__`; raise `IntegrityError` if they are not whole."""
    where = at(source, file)
    if metadata.get("format") != FORMAT:
        raise IntegrityError(
            f"{where}: expected a kept model of format {FORMAT}, found "
            f"'{shown(metadata.get('format', ''))}'; it is no kept model, or of a newer mdm_kit"
        )
    value = strict_json(metadata.get("kept", "").encode("utf-8", "surrogatepass"), where)
    wanted = {"source", "base", "files", "index", "tensors"}
    if not isinstance(value, dict) or value.keys() != wanted:
        raise _broken(where, "source, base, files, index and tensors")
    files, index, tensors = value["files"], value["index"], value["tensors"]
    if not isinstance(files, dict) or not all(type(n) is int and n > 0 for n in files.values()):
        raise _broken(where, "weight files with their sizes")
    if not isinstance(index, str | None):
        raise _broken(where, "the name of an index or null")
    for name in (*files, *([] if index is None else [index])):
        ending = ".safetensors.index.json" if name == index else ".safetensors"
        if not plain_name(source, name).endswith(ending):
            raise _broken(where, f"a name that ends in {ending}")
    if not isinstance(tensors, dict):
        raise _broken(where, "tensors with their digests")
    base = value["base"]
    return Facts(
        _identity(where, value["source"]),
        None if base is None else _identity(where, base),
        files,
        index,
        {name: _tensor(where, text) for name, text in tensors.items()},
    )


def _identity(where: str, value: object) -> Identity:
    texts = value if isinstance(value, list) else []
    if len(texts) != 2 or not all(isinstance(t, str) and _FINGERPRINT.fullmatch(t) for t in texts):
        raise _broken(where, "two fingerprints")
    return Identity(*texts)


def _tensor(where: str, text: object) -> KeptTensor:
    if not isinstance(text, str) or text[:1] not in ("+", "=") or not _DIGEST.fullmatch(text[1:]):
        raise _broken(where, "a tensor's digest behind + or =")
    return KeptTensor(text[0] == "+", text[1:])


def _broken(where: str, expected: str) -> IntegrityError:
    return IntegrityError(
        f"{where}: expected {expected} in its __metadata__, found something else; "
        "the file is damaged or hostile, get it again"
    )
