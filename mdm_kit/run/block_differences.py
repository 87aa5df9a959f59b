"""How the numbers of two tensors differ, block by block: changed elements and float64 sums."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.words import DTYPES

ROW = np.dtype(
    [
        ("changed", "<i8"),
        ("aa", "<f8"),
        ("bb", "<f8"),
        ("ab", "<f8"),
        ("dd", "<f8"),
        ("largest", "<f8"),
        ("largest_at", "<i8"),
        ("lost_a", "<i8"),
        ("lost_b", "<i8"),
    ]
)
"""What is known of a block of 65,536 elements: how many changed, the inner products of A, B and
D = B - A, the largest |D| and its place in the block, how many are no finite numbers."""

Bytes = NDArray[np.uint8]
Rows = NDArray[np.void]
Row = tuple[int, float, float, float, float, float, int, int, int]
Compare = Callable[[Bytes, Bytes], Row]

_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_WHOLE = {
    "BOOL": "u1", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
    "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
}  # fmt: skip


class _Room(threading.local):
    """Where a thread widens its blocks, kept from block to block.

    Fresh memory for each would be handed back and cleared by the system again and again, which was
    measured to take ten times as long as the work.
    """

    def __init__(self) -> None:
        self.a, self.b, self.d = np.empty((3, BLOCK))
        self.words = np.empty(BLOCK, np.uint32)


_room = _Room()


def comparing(dtype_a: str, dtype_b: str) -> Compare | None:
    """Return how elements of two dtypes are compared; None where neither bits nor values can be.

    It takes the bytes (uint8) of one block of A and of B. Numbers of one dtype have changed where
    their bits have; those of two dtypes where their values have, a NaN being like any other.
    """
    if DTYPES[dtype_a].merges and DTYPES[dtype_b].merges:
        return lambda x, y: _numbers(x, y, dtype_a, dtype_b)
    if dtype_a == dtype_b:
        return lambda x, y: _only_changed(other_bits(x, y, DTYPES[dtype_a].bits))
    if dtype_a in _WHOLE and dtype_b in _WHOLE:
        return lambda x, y: _only_changed(
            _other_whole(x.view(_WHOLE[dtype_a]), y.view(_WHOLE[dtype_b]))
        )
    return None


def _only_changed(changed: int) -> Row:
    return (changed, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0)


def _numbers(x: Bytes, y: Bytes, dtype_a: str, dtype_b: str) -> Row:
    # Infinities and overflow are what is looked for here; they are told, not warned of.
    with np.errstate(all="ignore"):
        a, b = widened(x, dtype_a, _room.a), widened(y, dtype_b, _room.b)
        if dtype_a == dtype_b:
            changed = other_bits(x, y, DTYPES[dtype_a].bits)
        else:
            changed = int(np.count_nonzero((a != b) & ~(np.isnan(a) & np.isnan(b))))
        aa, bb, lost_a, lost_b = _dot(a, a), _dot(b, b), 0, 0
        if not math.isfinite(aa + bb):
            gone_a, gone_b = ~np.isfinite(a), ~np.isfinite(b)
            lost_a, lost_b = int(np.count_nonzero(gone_a)), int(np.count_nonzero(gone_b))
            gone_a |= gone_b
            a[gone_a] = b[gone_a] = 0.0
            aa, bb = _dot(a, a), _dot(b, b)
        d = np.subtract(b, a, out=_room.d[: len(a)])
        ab, dd = _dot(a, b), _dot(d, d)
        np.abs(d, out=d)
        at = int(d.argmax())
        return (changed, aa, bb, ab, dd, float(d[at]), at, lost_a, lost_b)


def widened(raw: Bytes, dtype: str, room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers (n,) in float64, in the first n places of `room`."""
    if dtype == "BF16":
        halves = raw.view("<u2")
        words = _room.words[: len(halves)]
        words[:] = halves
        words <<= 16
        narrow: NDArray[Any] = words.view(np.float32)
    else:
        narrow = raw.view(_FLOATS[dtype])
    wide = room[: len(narrow)]
    wide[:] = narrow
    return wide


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    # Not `np.dot`: BLAS cuts long vectors among its threads, and its bits change with them.
    return float(np.einsum("i,i->", a, b))


def other_bits(x: Bytes, y: Bytes, bits: int) -> int:
    """Return how many elements of `bits` bits differ, packed ones (4, 6) included."""
    if bits % 8:
        apart = np.unpackbits(x ^ y, bitorder="little")  # as packed: first element in low bits
        return int(np.count_nonzero(apart.reshape(-1, bits).any(axis=1)))  # (elements, bits)
    word = f"<u{bits // 8}"
    return int(np.count_nonzero(x.view(word) != y.view(word)))


def _other_whole(x: NDArray[Any], y: NDArray[Any]) -> int:
    """Return how many whole numbers differ, whatever the widths and signs of their types."""
    if x.dtype.kind == y.dtype.kind:
        return int(np.count_nonzero(x != y))
    # numpy 1 compares int64 with uint64 as float64, where neighbours become the same.
    signed, other = (x, y) if x.dtype.kind == "i" else (y, x)
    negative = signed < 0
    return int(np.count_nonzero(negative | (signed.astype(np.uint64) != other)))
