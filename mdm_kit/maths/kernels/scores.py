"""Rows of changes, and the scores their elements are selected by.

Kernels here take their rows as float32 or float64 arrays and are compiled for either; `load` reads
a row in that precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.kernels.jit import F32s, F64s, I64s, array_at, kernel
from mdm_kit.maths.kernels.lanes import widen, widen64
from mdm_kit.maths.layouts import IMPORTANCE, MAGNITUDE, SPREAD

Row = NDArray[Any]


@kernel
def load32(address: int, start: int, code: int, narrow: F32s, x: F32s) -> None:
    """Fill `x` (m,) float32 with stored numbers; `narrow` is not needed."""
    widen(address, start, code, x)


@kernel
def load64(address: int, start: int, code: int, narrow: F32s, x: F64s) -> None:
    """Fill `x` (m,) float64 with stored numbers; `narrow` (m,) is scratch."""
    widen64(address, start, code, narrow, x)


@kernel
def load_delta(
    load: Any, address: int, start: int, code: int, narrow: F32s, b: Row, d: Row
) -> None:
    """Fill `d` (m,) with a model's numbers minus the base's, `b` (m,)."""
    load(address, start, code, narrow, d)
    for j in range(d.shape[0]):
        d[j] = d[j] - b[j]


@kernel
def load_base_as64(address: int, start: int, code: int, base32: F32s, b: F64s) -> None:
    """Fill `b` (m,) float64 and `base32` (m,) float32 with the base's numbers."""
    widen64(address, start, code, base32, b)
    for j in range(b.shape[0]):
        base32[j] = np.float32(b[j])


@kernel
def load_delta_as64(
    address: int, start: int, code: int, wide: int, narrow: F32s, base32: F32s, b: F64s, d: F64s
) -> None:
    """Fill `d` (m,) float64 with a model's numbers minus the base's.

    The base is `base32` and `b`; the difference is rounded to float32 unless `wide` is 1.
    """
    if wide:
        widen64(address, start, code, narrow, d)
        for j in range(d.shape[0]):
            d[j] = d[j] - b[j]
    else:
        widen(address, start, code, narrow)
        for j in range(d.shape[0]):
            d[j] = np.float64(np.float32(narrow[j] - base32[j]))


@kernel
def fill_spread(rows: Row, k: int, stride: int, m: int, s: Row) -> None:
    """Fill `s` (m,) with the variance over k rows of changes, which lie `stride` apart."""
    for j in range(m):
        total = 0.0
        for i in range(k):
            total += np.float64(rows[i * stride + j])
        mean = total / k
        squares = 0.0
        for i in range(k):
            apart = np.float64(rows[i * stride + j]) - mean
            squares += apart * apart
        s[j] = squares / k


@kernel
def fill_score(kind: int, d: Row, start: int, divergence: F64s, length: int, s: Row) -> None:
    """Fill `s` (m,) with what the changes `d` (m,) are selected by, magnitude or importance.

    `start` is the first one's place in the tensor, whose vectors of `length` have `divergence`.
    """
    m = d.shape[0]
    if kind == MAGNITUDE:
        for j in range(m):
            s[j] = abs(d[j])
    elif kind == IMPORTANCE:
        j = 0
        while j < m:
            vector = (start + j) // length
            end = min(m, (vector + 1) * length - start)
            weight = divergence[vector]
            for h in range(j, end):
                s[h] = np.float64(abs(d[h])) * weight
            j = end


@kernel
def is_spread(kind: int) -> bool:
    """Whether a score is one of all models together."""
    return kind == SPREAD


@kernel
def addresses(inputs: int, k: int) -> I64s:
    """Return the k + 1 addresses of the inputs, then their codes."""
    return array_at(inputs, 2 * (k + 1), np.int64)
