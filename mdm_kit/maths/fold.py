"""The fold: base + Σ w_i (x_i - base), or Σ w_i x_i, in one pass from stored to stored numbers.

Every linear method ends here. Rows of 2,048 numbers are widened, subtracted, weighted, added and
rounded while they stay in the first-level cache, so a merge costs one read of its inputs and one
write of its output. Sums run in the order of the models; a product is rounded before it is added.
numba's code without fastmath has no fused multiply-add and the same bits on every CPU.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.jit import U16, F32s, F64s, I64s, kernel
from mdm_kit.maths.lanes import (
    BF16,
    F16,
    F32,
    F64,
    largest_bits,
    round_to_bf16,
    round_to_f16,
    round_to_odd,
    widen,
    widen64,
)

ROW = 2048
"""Numbers worked on at a time: three rows of float32 are 24 KiB, within a 32 KiB cache."""

_LIMIT = {
    F32: 0x7F800000,  # infinity
    BF16: 0x7F7F8000,  # the middle between the largest bfloat16 and the next power of two
    F16: 0x477FF000,  # 65520, the middle above 65504
}
"""Float32 magnitudes, as bits, from which on a value is not finite in the output's dtype."""
_LIMITS = np.array([_LIMIT[F32], _LIMIT[BF16], _LIMIT[F16], 0], np.int32)


@kernel
def fold32(
    raw16: U16,
    raw32: F32s,
    raw64: F64s,
    codes: I64s,
    weights: F64s,
    base: bool,
    n: int,
    out16: U16,
    out32: F32s,
    out64: F64s,  # noqa: ARG001 -- kernels are called alike
    out_code: int,
) -> bool:
    """Fold n elements in float32; return whether every result is finite in the output's dtype.

    Row i of `raw16`, `raw32`, `raw64` (views of one buffer) holds input i with the dtype
    `codes[i]`. With `base`, row 0 is the base and the others are models; `weights` has one float64
    per model, rounded to float32 here. The `out*` arrays are views of one output row.
    """
    k = codes.shape[0]
    first = 1 if base else 0
    x, b, acc = np.empty(ROW, np.float32), np.empty(ROW, np.float32), np.empty(ROW, np.float32)
    top = np.int32(0)
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        stop = start + m
        xm, bm, am = x[:m], b[:m], acc[:m]
        if base:
            r16, r32, r64 = raw16[0][start:stop], raw32[0][start:stop], raw64[0][start:stop]
            widen(r16, r32, r64, codes[0], bm)
        for i in range(first, k):
            w = np.float32(weights[i - first])
            r16, r32, r64 = raw16[i][start:stop], raw32[i][start:stop], raw64[i][start:stop]
            widen(r16, r32, r64, codes[i], xm)
            if base:
                for j in range(m):
                    xm[j] = xm[j] - bm[j]
            if i == first:
                for j in range(m):
                    am[j] = xm[j] * w
            else:
                for j in range(m):
                    am[j] = am[j] + xm[j] * w
        if base:
            for j in range(m):
                am[j] = bm[j] + am[j]
        top = max(top, largest_bits(am))
        if out_code == BF16:
            round_to_bf16(am, out16[start:stop])
        elif out_code == F16:
            round_to_f16(am, out16[start:stop])
        else:
            o32 = out32[start:stop]
            for j in range(m):
                o32[j] = am[j]
    return top < _LIMITS[out_code]  # type: ignore[no-any-return]


@kernel
def fold64(
    raw16: U16,
    raw32: F32s,
    raw64: F64s,
    codes: I64s,
    weights: F64s,
    base: bool,
    n: int,
    out16: U16,
    out32: F32s,
    out64: F64s,
    out_code: int,
) -> bool:
    """Fold like `fold32`, in float64, rounded once to the output's dtype."""
    k = codes.shape[0]
    first = 1 if base else 0
    x, b, acc = np.empty(ROW), np.empty(ROW), np.empty(ROW)
    narrow = np.empty(ROW, np.float32)
    top = np.int32(0)
    finite = True
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        stop = start + m
        xm, bm, am, nm = x[:m], b[:m], acc[:m], narrow[:m]
        if base:
            r16, r32, r64 = raw16[0][start:stop], raw32[0][start:stop], raw64[0][start:stop]
            widen64(r16, r32, r64, codes[0], nm, bm)
        for i in range(first, k):
            w = weights[i - first]
            r16, r32, r64 = raw16[i][start:stop], raw32[i][start:stop], raw64[i][start:stop]
            widen64(r16, r32, r64, codes[i], nm, xm)
            if base:
                for j in range(m):
                    xm[j] = xm[j] - bm[j]
            if i == first:
                for j in range(m):
                    am[j] = xm[j] * w
            else:
                for j in range(m):
                    am[j] = am[j] + xm[j] * w
        if base:
            for j in range(m):
                am[j] = bm[j] + am[j]
        if out_code == F64:
            o64 = out64[start:stop]
            for j in range(m):
                o64[j] = am[j]
                finite = finite and abs(am[j]) < np.inf
        elif out_code == F32:
            o32 = out32[start:stop]
            for j in range(m):
                nm[j] = np.float32(am[j])
                o32[j] = nm[j]
            top = max(top, largest_bits(nm))
        else:
            round_to_odd(am, nm)
            top = max(top, largest_bits(nm))
            if out_code == BF16:
                round_to_bf16(nm, out16[start:stop])
            else:
                round_to_f16(nm, out16[start:stop])
    return finite and (out_code == F64 or top < _LIMITS[out_code])
