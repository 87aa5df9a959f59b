"""The header of a safetensors file: a stranger's word, checked before anything relies on it.

A file is `n` (8 bytes, little-endian), `n` bytes of JSON, then the data. The JSON maps each tensor
to its dtype, shape and byte range; the ranges must tile the data with no hole and no overlap, as
github.com/huggingface/safetensors#format demands. Nothing here reads data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.strict_json import strict_json
from mdm_kit.sources.whereabouts import at, named
from mdm_kit.words import DTYPES, TensorInfo, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

LENGTH_BYTES = 8
"""The header's length is the file's first 8 bytes, a little-endian unsigned integer."""

MAX_HEADER_BYTES = 25_000_000
"""Enough for 200,000 tensors. The format's own limit is 100,000,000, chosen against JSON bombs."""

MAX_DIMS = 64
"""NumPy 2 and torch's iterators stop at 64 dimensions."""

MAX_TENSOR_BITS = 1 << 63
"""No file system holds more; readers that count in 64 bits overflow above it."""

_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}

_Entry = tuple[object, tuple[object, ...], tuple[object, ...]]
"""What is kept of a tensor's entry: dtype, shape, data_offsets, their items unchecked."""


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: `tensors` in the order of their data, `nbytes` counts the length field.

    `sha256` is the hex digest of the JSON bytes alone.
    """

    metadata: Mapping[str, str]
    tensors: tuple[TensorInfo, ...]
    nbytes: int
    sha256: str


def header_length(source: str, file: str, first8: bytes, file_size: int) -> int:
    """Return how many bytes of JSON follow the first eight; raise `IntegrityError` if absurd."""
    if file_size < LENGTH_BYTES or len(first8) < LENGTH_BYTES:
        raise IntegrityError(
            f"{at(source, file)}: expected a safetensors file, found only {file_size} bytes; "
            "the file is cut short, get it again"
        )
    length = int.from_bytes(first8[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise IntegrityError(
            f"{at(source, file)}: expected a header of at most {MAX_HEADER_BYTES:,} bytes, found a "
            f"length of {length:,}; this is not a safetensors file, or it is hostile"
        )
    if length == 0:
        raise IntegrityError(f"{at(source, file)}: expected a header, found a length of 0")
    if LENGTH_BYTES + length > file_size:
        raise IntegrityError(
            f"{at(source, file)}: expected a header of {length:,} bytes, found a file of "
            f"{file_size:,} bytes; the file is cut short, get it again"
        )
    return length


def parse_header(source: str, file: str, prefix: bytes, file_size: int) -> Header:
    """Return the header held in `prefix`, the length field and the JSON, of a file of `file_size`.

    Raises `IntegrityError` naming model, file and tensor for anything the format does not allow.
    """
    length = header_length(source, file, prefix[:LENGTH_BYTES], file_size)
    text = prefix[LENGTH_BYTES : LENGTH_BYTES + length]
    if len(text) < length:
        raise IntegrityError(
            f"{at(source, file)}: expected a header of {length:,} bytes, found {len(text):,}; "
            "the file is cut short, get it again"
        )
    entries = _entries(source, file, text)
    metadata = _metadata(source, file, entries.pop("__metadata__", {}))
    start = LENGTH_BYTES + length
    tensors = [
        _tensor(source, file, name, entry, start, file_size) for name, entry in entries.items()
    ]
    tensors.sort(key=attrgetter("span", "name"))
    _must_tile(source, file, tensors, start, file_size)
    return Header(metadata, tuple(tensors), start, hashlib.sha256(text).hexdigest())


def _entries(source: str, file: str, text: bytes) -> dict[str, object]:
    where = f"{at(source, file)}: header"
    if not text.startswith(b"{"):
        raise IntegrityError(
            f"{where}: expected '{{' as its first byte, found {text[:1]!r}; "
            "this is not a safetensors file"
        )
    # Readers stop at the last brace; what stood behind it would be hidden from them.
    if not text.rstrip(b" ").endswith(b"}"):
        raise IntegrityError(
            f"{where}: expected '}}' and then only spaces at its end, found "
            f"{shown(repr(text[-20:]))}; the file is damaged, get it again"
        )
    value = strict_json(text, where, _entry)
    if not isinstance(value, dict):  # the whole header was one tensor's entry
        raise IntegrityError(f"{where}: expected tensors by name, found one tensor without a name")
    return value


def _entry(found: dict[str, object]) -> dict[str, object] | _Entry:
    """Return a tensor's entry as tuples; anything else as it is, to be refused by name later."""
    shape, offsets = found.get("shape"), found.get("data_offsets")
    if type(shape) is list and type(offsets) is list and len(found) == 3 and "dtype" in found:
        return found["dtype"], tuple(shape), tuple(offsets)
    return found


def _metadata(source: str, file: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise IntegrityError(
            f"{at(source, file)}: expected __metadata__ to map texts to texts, found {_kind(value)}"
        )
    for key, text in value.items():
        if not isinstance(text, str):
            raise IntegrityError(
                f"{at(source, file)}: expected text under __metadata__ key '{shown(key)}', "
                f"found {_kind(text)}"
            )
    return value


def _tensor(
    source: str, file: str, name: str, entry: object, start: int, file_size: int
) -> TensorInfo:
    if not isinstance(entry, tuple):
        raise _no_entry(source, file, name, entry)
    dtype, dims, offsets = entry
    known = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if known is None:
        found = f"'{shown(dtype)}'" if isinstance(dtype, str) else _kind(dtype)
        raise _broken(source, file, name, "a dtype of the safetensors format", found)
    shape, bits = _shape(source, file, name, dims, known.bits)
    begin, end = _offsets(source, file, name, offsets, file_size - start)
    if bits != 8 * (end - begin):
        if bits % 8:
            wanted = f"{known.name} elements that fill whole bytes"
            raise _broken(source, file, name, wanted, f"{bits} bits in shape {list(shape)}")
        wanted = f"{bits // 8} bytes of {known.name} in shape {list(shape)}"
        raise _broken(source, file, name, wanted, f"data_offsets that span {end - begin}")
    return TensorInfo(
        source, name, shape, known.name, end - begin, file, (start + begin, start + end)
    )


def _shape(
    source: str, file: str, name: str, dims: tuple[object, ...], bits: int
) -> tuple[tuple[int, ...], int]:
    """Return the shape and the bits its elements take."""
    if len(dims) > MAX_DIMS:
        raise _broken(source, file, name, f"at most {MAX_DIMS} dimensions", str(len(dims)))
    size = held = bits
    for dim in dims:
        if type(dim) is not int or dim < 0:  # a bool is an int to isinstance
            found = str(dim) if type(dim) is int else _kind(dim)
            raise _broken(source, file, name, "dimensions that are whole and not negative", found)
        size *= dim
        held *= dim or 1
    # Without the zeros, so that [2**63, 2**63, 0] cannot overflow a reader that multiplies in turn.
    if held >= MAX_TENSOR_BITS:
        found = f"shape {shown(str(list(dims)))}"
        raise _broken(source, file, name, "a shape that fits into a file", found)
    return cast("tuple[int, ...]", dims), size


def _offsets(
    source: str, file: str, name: str, pair: tuple[object, ...], room: int
) -> tuple[int, int]:
    begin, end = pair if len(pair) == 2 else (None, None)
    if type(begin) is not int or type(end) is not int:
        found = shown(str(list(pair)))
        raise _broken(source, file, name, "data_offsets of two whole numbers", found)
    if not 0 <= begin <= end:
        found = str([begin, end])
        raise _broken(source, file, name, "data_offsets in rising order from 0", found)
    if end > room:
        wanted = f"data_offsets within the file's {room:,} bytes of data"
        raise _broken(source, file, name, wanted, str([begin, end]))
    return begin, end


def _must_tile(
    source: str, file: str, tensors: list[TensorInfo], start: int, file_size: int
) -> None:
    """Raise unless the tensors, sorted by span, cover the data once, from first byte to last."""
    cursor = start
    before: str | None = None
    for info in tensors:
        begin, end = info.span
        if begin != cursor:
            fault = "overlaps" if begin < cursor else "leaves a hole after"
            raise _broken(
                source,
                file,
                info.name,
                f"data that begins where {_before(before)} ends, at byte {cursor:,}",
                f"byte {begin:,}: it {fault} {_before(before)}",
            )
        cursor, before = end, info.name
    if cursor != file_size:
        raise IntegrityError(
            f"{at(source, file)}: expected the data to end with the file at byte {file_size:,}, "
            f"found the end of {_before(before)} at byte {cursor:,}; "
            f"{file_size - cursor:,} bytes belong to no tensor"
        )


def _before(name: str | None) -> str:
    return "the header" if name is None else f"'{shown(name)}'"


def _broken(source: str, file: str, name: str, expected: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"{at(source, file, name)}: expected {expected}, found {found}; "
        "the file is damaged or hostile, get it again"
    )


def _no_entry(source: str, file: str, name: str, found: object) -> IntegrityError:
    """Return the error for an entry that is not dtype, shape and offsets, naming what is off."""
    if not isinstance(found, dict):
        return _broken(source, file, name, "an object", _kind(found))
    if found.keys() != _ENTRY_KEYS:
        keys = named(sorted(found)) or "none"
        return _broken(source, file, name, "exactly the keys dtype, shape and data_offsets", keys)
    key = "shape" if not isinstance(found["shape"], list) else "data_offsets"
    return _broken(source, file, name, f"a list for {key}", _kind(found[key]))


def _kind(value: object) -> str:
    """Return what a JSON value is, in JSON's own words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names: dict[type, str] = {int: "a number", float: "a number", str: "a text", list: "a list"}
    if isinstance(value, float):
        return f"the number {value}"
    return names.get(type(value), "an object")
