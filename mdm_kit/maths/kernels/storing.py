"""Rows of results, rounded once to what is stored."""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import F32s, F64s, array_at, kernel
from mdm_kit.maths.kernels.lanes import largest_bits, round_to_bf16, round_to_f16, round_to_odd
from mdm_kit.maths.layouts import BF16, F16, F32, F64

_LIMITS = (
    0x7F800000,  # F32: infinity
    0x7F7F8000,  # BF16: the middle between the largest number and the next power of two
    0x477FF000,  # F16: 65520, the middle above 65504
    0,
)
"""Float32 magnitudes, as bits, from which on a value is not finite in the output's dtype."""


@kernel
def limit(code: int) -> int:
    """Return the magnitude, as float32 bits, from which on a dtype has only infinity."""
    if code == F32:
        return _LIMITS[F32]
    return _LIMITS[BF16] if code == BF16 else _LIMITS[F16]


@kernel
def store32(x: F32s, narrow: F32s, spare: F32s, out: int, start: int, code: int) -> bool:
    """Write `x` (m,) at `out` from element `start` on; return whether every result is finite.

    `spare` (m,) is scratch, `narrow` is not needed.
    """
    finite = bool(largest_bits(x) < limit(code))
    m = x.shape[0]
    if code == BF16:
        round_to_bf16(x, array_at(out + start * 2, m, np.uint16))
    elif code == F16:
        round_to_f16(x, array_at(out + start * 2, m, np.uint16), spare)
    else:
        o32 = array_at(out + start * 4, m, np.float32)
        for j in range(m):
            o32[j] = x[j]
    return finite


@kernel
def store64(x: F64s, narrow: F32s, spare: F32s, out: int, start: int, code: int) -> bool:
    """Write `x` (m,) float64 as `store32` does; `narrow` and `spare` (m,) are scratch."""
    m = x.shape[0]
    if code == F64:
        bad = 0
        o64 = array_at(out + start * 8, m, np.float64)
        for j in range(m):
            o64[j] = x[j]
            bad += 0 if abs(x[j]) < np.inf else 1
        return bad == 0
    if code == F32:
        for j in range(m):
            narrow[j] = np.float32(x[j])
    else:
        round_to_odd(x, narrow)
    return store32(narrow, narrow, spare, out, start, code)
