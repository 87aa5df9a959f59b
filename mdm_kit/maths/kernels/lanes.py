"""Widening and rounding in numba: the four float types of checkpoints, to and from float32.

A checkpoint's 16-bit numbers travel as uint16, so that no library's idea of a half enters. Every
function works on short rows that stay in the first-level cache and has no branch that the compiler
could not turn into a select. numba promotes uint32 arithmetic to uint64, which halves the vector
width: hence the casts.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import U16, F32s, F64s, array_at, bits_of, kernel
from mdm_kit.maths.layouts import BF16, F16, F32, F64

_HALF_INF_SHIFTED = np.uint32(0x7C00 << 13)
_HALF_REBIAS = np.uint32((127 - 15) << 23)
_HALF_INF_REBIAS = np.uint32((128 - 16) << 23)
_HALF_TINY = np.uint32(113 << 23)  # 2^-14 as float32 bits
_HALF_MAGIC = np.float32(0.5)
_HALF_MAGIC_BITS = np.uint32(126 << 23)  # 0.5 as float32 bits
"""Constants of the half-float conversions (F. Giesen 2012, "float->half conversions")."""


@kernel
def widened(bf16: np.uint16) -> np.float32:
    """Return a bfloat16, given as its bits, as float32."""
    return np.uint32(np.uint32(bf16) << np.uint32(16)).view(np.float32)


@kernel
def widen(address: int, start: int, code: int, x32: F32s) -> None:
    """Fill `x32` (m,) float32 with the m elements from `start` on of a tensor of any code.

    `address` is where the tensor begins.
    """
    m = x32.shape[0]
    if code == F32:
        raw32 = array_at(address + start * 4, m, np.float32)
        for j in range(m):
            x32[j] = raw32[j]
    elif code == BF16:
        raw16 = array_at(address + start * 2, m, np.uint16)
        for j in range(m):
            x32[j] = widened(raw16[j])
    elif code == F16:
        _widen_half(array_at(address + start * 2, m, np.uint16), x32)
    else:
        raw64 = array_at(address + start * 8, m, np.float64)
        for j in range(m):
            x32[j] = np.float32(raw64[j])


@kernel
def widen64(address: int, start: int, code: int, x32: F32s, x64: F64s) -> None:
    """Fill `x64` (m,) float64 like `widen`; `x32` (m,) is scratch."""
    m = x64.shape[0]
    if code == F64:
        raw64 = array_at(address + start * 8, m, np.float64)
        for j in range(m):
            x64[j] = raw64[j]
    else:
        widen(address, start, code, x32)
        for j in range(m):
            x64[j] = np.float64(x32[j])


@kernel
def _widen_half(raw16: U16, x32: F32s) -> None:
    bits = bits_of(x32, np.uint32)
    m = x32.shape[0]
    for j in range(m):
        o = np.uint32(np.uint32(raw16[j] & np.uint16(0x7FFF)) << np.uint32(13))
        e = np.uint32(o & _HALF_INF_SHIFTED)
        o = np.uint32(o + _HALF_REBIAS)
        o = np.uint32(o + (_HALF_INF_REBIAS if e == _HALF_INF_SHIFTED else np.uint32(0)))
        o = np.uint32(o + (np.uint32(1 << 23) if e == np.uint32(0) else np.uint32(0)))
        bits[j] = o
    tiny = np.float32(2.0**-14)
    for j in range(m):
        exponent = np.uint16(raw16[j] & np.uint16(0x7C00))
        x32[j] = x32[j] - (tiny if exponent == np.uint16(0) else np.float32(0.0))
    for j in range(m):
        sign = np.uint32(np.uint32(raw16[j] & np.uint16(0x8000)) << np.uint32(16))
        bits[j] = np.uint32(bits[j] | sign)


@kernel
def largest_bits(x32: F32s) -> np.int32:
    """Return the largest magnitude of `x32` (m,) as bits; NaN counts above infinity."""
    bits = bits_of(x32, np.int32)
    top = np.int32(0)
    for j in range(x32.shape[0]):
        # Without the sign bit an int32 orders as a uint32 does, and stays 32 bits wide.
        b = np.int32(bits[j] & np.int32(0x7FFFFFFF))
        if b > top:
            top = b
    return top


@kernel
def round_to_bf16(x32: F32s, out16: U16) -> None:
    """Write finite `x32` (m,) as bfloat16 bits, to nearest, ties to even."""
    bits = bits_of(x32, np.uint32)
    for j in range(x32.shape[0]):
        b = bits[j]
        odd = np.uint32(np.uint32(b >> np.uint32(16)) & np.uint32(1))
        r = np.uint32(np.uint32(b + np.uint32(0x7FFF)) + odd)
        out16[j] = np.uint16(r >> np.uint32(16))


@kernel
def round_to_f16(x32: F32s, out16: U16, scratch: F32s) -> None:
    """Write finite `x32` (m,) below 65520 as float16 bits, to nearest, ties to even."""
    bits = bits_of(x32, np.uint32)
    small_bits = bits_of(scratch, np.uint32)
    for j in range(x32.shape[0]):
        scratch[j] = abs(x32[j]) + _HALF_MAGIC  # the addition itself rounds a denormal half
    for j in range(x32.shape[0]):
        b = np.uint32(bits[j] & np.uint32(0x7FFFFFFF))
        odd = np.uint32(np.uint32(b >> np.uint32(13)) & np.uint32(1))
        normal = np.uint32(np.uint32(b - _HALF_REBIAS) + np.uint32(0xFFF))
        normal = np.uint32(np.uint32(normal + odd) >> np.uint32(13))
        tiny = np.uint32(small_bits[j] - _HALF_MAGIC_BITS)
        o = tiny if b < _HALF_TINY else normal
        sign = np.uint32(np.uint32(bits[j] & np.uint32(0x80000000)) >> np.uint32(16))
        out16[j] = np.uint16(o | sign)


@kernel
def round_to_odd(x64: F64s, x32: F32s) -> None:
    """Write `x64` (m,) into float32 `x32` (m,), rounded to odd.

    A later rounding to 16 bits is then as if it were the only one (Boldo and Melquiond 2008,
    "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd").
    """
    bits = bits_of(x32, np.uint32)
    for j in range(x64.shape[0]):
        x = x64[j]
        f = np.float32(x)
        x32[j] = f
        if np.float64(f) != x and abs(x) < np.inf:
            if abs(np.float64(f)) > abs(x):
                bits[j] = np.uint32(bits[j] - np.uint32(1))
            bits[j] = np.uint32(bits[j] | np.uint32(1))
