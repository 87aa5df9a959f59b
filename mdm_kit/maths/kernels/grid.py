"""Numbers rounded to whole steps and added as int64, and the sums as numbers again.

Rows lie one behind the other in `sums` and `stride` apart among the numbers. The first has `width`
numbers, each later one `growth` more: 0 for a matrix, 1 for the rows of a triangle.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import F32s, F64s, I64s, array_at, kernel
from mdm_kit.maths.layouts import F32

_LIMIT = np.int64(1 << 62)
"""Neither a number nor a sum may exceed it: the sum of two such never wraps."""
_WHOLE = 2.0**52
"""From here on a float64 is whole; added to a smaller one it rounds that, ties to even."""


def add_rounded(
    sums: int,
    values: int,
    code: int,
    rows: int,
    width: int,
    growth: int,
    stride: int,
    factor: int,
    sign: int,
) -> int:
    """Add `sign` times the numbers times a factor, each rounded; return how many were too large.

    `factor` is the address of a float64, `code` the dtype of `values`, F32 or F64. What is not a
    number counts as too large. Then the sums are spoiled.
    """
    f = array_at(factor, 1, np.float64)[0]
    bad, at = 0, sums
    for r in range(rows):
        n = width + r * growth
        s = array_at(at, n, np.int64)
        if code == F32:
            bad += _add32(s, array_at(values + r * stride * 4, n, np.float32), f, sign)
        else:
            bad += _add64(s, array_at(values + r * stride * 8, n, np.float64), f, sign)
        at += n * 8
    return bad


def read_sums(
    sums: int, out: int, rows: int, width: int, growth: int, stride: int, factor: int
) -> int:
    """Write the sums times a factor, the address of a float64, to `out` as float64; return 0."""
    f = array_at(factor, 1, np.float64)[0]
    at = sums
    for r in range(rows):
        n = width + r * growth
        s, x = array_at(at, n, np.int64), array_at(out + r * stride * 8, n, np.float64)
        for j in range(n):
            x[j] = np.float64(s[j]) * f
        at += n * 8
    return 0


@kernel
def _add32(s: I64s, x: F32s, f: float, sign: int) -> int:
    bad = 0
    for j in range(s.shape[0]):
        steps = _rounded(np.float64(x[j]) * f)
        total = s[j] + sign * np.int64(steps)
        s[j] = total
        bad += 0 if abs(steps) < _LIMIT and abs(total) <= _LIMIT else 1
    return bad


@kernel
def _add64(s: I64s, x: F64s, f: float, sign: int) -> int:
    bad = 0
    for j in range(s.shape[0]):
        steps = _rounded(x[j] * f)
        total = s[j] + sign * np.int64(steps)
        s[j] = total
        bad += 0 if abs(steps) < _LIMIT and abs(total) <= _LIMIT else 1
    return bad


@kernel
def _rounded(x: float) -> float:
    """Return the nearest whole number, ties to even; the limit instead of what no int64 holds."""
    size = abs(x)
    whole = (size + _WHOLE) - _WHOLE if size < _WHOLE else size
    whole = whole if whole < 2.0**62 else 2.0**62  # noqa: FURB136 -- a NaN becomes the limit too
    return -whole if x < 0.0 else whole
