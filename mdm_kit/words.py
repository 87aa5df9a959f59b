"""The nouns every room shares: dtypes, model references, tensors, places and findings."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class DType:
    """A storage type of the safetensors format: its name there, its torch name, its width.

    `merges` is true for the floating types arithmetic is defined on; every other type is copied
    where all sources agree.
    """

    name: str
    torch_name: str
    bits: int
    merges: bool = False


DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("BOOL", "bool", 8),
        DType("U8", "uint8", 8),
        DType("I8", "int8", 8),
        DType("F8_E5M2", "float8_e5m2", 8),
        DType("F8_E4M3", "float8_e4m3fn", 8),
        DType("F8_E8M0", "float8_e8m0fnu", 8),
        DType("F8_E4M3FNUZ", "float8_e4m3fnuz", 8),
        DType("F8_E5M2FNUZ", "float8_e5m2fnuz", 8),
        DType("F4", "float4_e2m1fn_x2", 4),
        DType("F6_E2M3", "float6_e2m3fn", 6),
        DType("F6_E3M2", "float6_e3m2fn", 6),
        DType("U16", "uint16", 16),
        DType("I16", "int16", 16),
        DType("F16", "float16", 16, merges=True),
        DType("BF16", "bfloat16", 16, merges=True),
        DType("U32", "uint32", 32),
        DType("I32", "int32", 32),
        DType("F32", "float32", 32, merges=True),
        DType("C64", "complex64", 64),
        DType("U64", "uint64", 64),
        DType("I64", "int64", 64),
        DType("F64", "float64", 64, merges=True),
    )
}
"""Every dtype of safetensors 0.8, by its name in a header."""

OUT_DTYPES: dict[str, DType] = {d.torch_name: d for d in DTYPES.values() if d.merges}
"""The dtypes a recipe may ask for, by their torch name."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA adapter named after a `+` in a model reference."""

    path: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a recipe names it: Hub id or folder, revision, adapter (`path@rev+lora@rev`)."""

    path: str
    revision: str | None = None
    adapter: AdapterRef | None = None

    def __str__(self) -> str:
        """Return the reference in the recipe's own one-line form."""
        text = self.path + (f"@{self.revision}" if self.revision else "")
        if self.adapter:
            text += "+" + self.adapter.path
            text += f"@{self.adapter.revision}" if self.adapter.revision else ""
        return text


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor that has not been read: where its bytes lie and what they mean.

    `span` is the half-open byte range in `file`, counted from the file's first byte; `source` is
    the name the recipe gives the model.
    """

    source: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    file: str
    span: tuple[int, int]

    @property
    def n_elements(self) -> int:
        """How many elements the shape holds; 1 for a scalar, 0 for an empty tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a recipe: line and column counted from 1, and how many columns to underline."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class License:
    """A licence as a card of the Hub states it; `other` has a name and a link of its own."""

    id: str
    name: str | None = None
    link: str | None = None


class Level(StrEnum):
    """How grave a finding is; an error stops before anything is downloaded or written."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Kind(StrEnum):
    """What a finding is about; each kind has its exit code."""

    RECIPE = "recipe"
    MISFIT = "misfit"
    SOURCE = "source"
    INTEGRITY = "integrity"


EXIT_CODES: dict[Kind, int] = {
    Kind.RECIPE: 2,
    Kind.MISFIT: 3,
    Kind.INTEGRITY: 4,
    Kind.SOURCE: 5,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know: what is wrong, where it stands, what to do about it."""

    level: Level
    kind: Kind
    message: str
    hint: str = ""
    place: Place | None = None


def counted(n: int, noun: str) -> str:
    """Return a count with its noun: `1 file`, `2,000 files`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def shown(text: str, limit: int = 200) -> str:
    """Return `text` safe for a terminal or a log: one line, no control or bidi characters.

    Names of tensors and files come from strangers; whatever could move a cursor, colour a line or
    turn the reading direction is written as its escape, and long text is cut in the middle.
    """
    safe = "".join(
        c
        if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )
    if len(safe) > limit:
        half = (limit - 3) // 2
        safe = f"{safe[:half]}...{safe[-half:]}"
    return safe


NAMES_SHOWN = 5
"""How many tensor names a finding lists before it only counts."""


def some(names: Sequence[str], *, escape: bool = True) -> str:
    """Return the first of many names for people to read, and how many more there are."""
    first = [shown(n, 80) if escape else n for n in names[:NAMES_SHOWN]]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def human_bytes(n: float) -> str:
    """Return a byte count as people write it: `512 B`, `1.5 MB`, `14.2 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 1000 or unit == "TB":
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError("unreachable")
