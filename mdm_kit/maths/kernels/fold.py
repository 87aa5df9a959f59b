"""The fold: base + Σ w_i (x_i - base), or Σ w_i x_i, in one pass from stored to stored numbers.

Every linear method ends here. Rows of 2,048 numbers are widened, subtracted, weighted, added and
rounded while they stay in the first-level cache, so a merge costs one read of its inputs and one
write of its output. Sums run in the order of the models; a product is rounded before it is added.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import U16, F32s, F64s, array_at, kernel
from mdm_kit.maths.kernels.lanes import (
    largest_bits,
    round_to_bf16,
    round_to_f16,
    round_to_odd,
    widen,
    widen64,
    widened,
)
from mdm_kit.maths.layouts import BF16, F16, F32, F64, FOLD_ROW

_LIMITS = (
    0x7F800000,  # F32: infinity
    0x7F7F8000,  # BF16: the middle between the largest number and the next power of two
    0x477FF000,  # F16: 65520, the middle above 65504
    0,
)
"""Float32 magnitudes, as bits, from which on a value is not finite in the output's dtype."""


@kernel
def _limit(code: int) -> int:
    if code == F32:
        return _LIMITS[F32]
    return _LIMITS[BF16] if code == BF16 else _LIMITS[F16]


@kernel
def _add_weighted32(
    x: F32s, base: F32s, delta: bool, w: np.float32, first: bool, acc: F32s
) -> None:
    m = acc.shape[0]
    if delta:
        for j in range(m):
            x[j] = x[j] - base[j]
    if first:
        for j in range(m):
            acc[j] = x[j] * w
    else:
        for j in range(m):
            acc[j] = acc[j] + x[j] * w


@kernel
def _add_weighted64(x: F64s, base: F64s, delta: bool, w: float, first: bool, acc: F64s) -> None:
    m = acc.shape[0]
    if delta:
        for j in range(m):
            x[j] = x[j] - base[j]
    if first:
        for j in range(m):
            acc[j] = x[j] * w
    else:
        for j in range(m):
            acc[j] = acc[j] + x[j] * w


@kernel
def _add_weighted_bf16(
    raw: U16, base: F32s, delta: bool, w: np.float32, first: bool, acc: F32s
) -> None:
    """Do what `widen` and `_add_weighted32` do, without a row of float32 between them."""
    m = acc.shape[0]
    if delta:
        if first:
            for j in range(m):
                acc[j] = (widened(raw[j]) - base[j]) * w
        else:
            for j in range(m):
                acc[j] = acc[j] + (widened(raw[j]) - base[j]) * w
    elif first:
        for j in range(m):
            acc[j] = widened(raw[j]) * w
    else:
        for j in range(m):
            acc[j] = acc[j] + widened(raw[j]) * w


def fold32(
    addresses: int,
    codes: int,
    weights: int,
    k: int,
    base: int,
    n: int,
    out: int,
    out_code: int,
    scratch: int,
) -> int:
    """Fold n elements in float32; return 1 if every result is finite in the output's dtype, else 0.

    `addresses`, `codes` (k,) int64 say where each input's numbers begin and their dtypes; where
    `base` is 1 the first input is the base and the others are models, else all are models.
    `weights` has a float64 for each model, rounded to float32 here. `out` takes n numbers of
    `out_code`; `scratch` is `FOLD_SCRATCH_NBYTES` long. All but k, base, n and out_code are
    addresses.
    """
    at, dtypes = array_at(addresses, k, np.int64), array_at(codes, k, np.int64)
    w = array_at(weights, k - base, np.float64)
    rows = array_at(scratch, 4 * FOLD_ROW, np.float32)
    top = np.int32(0)
    for start in range(0, n, FOLD_ROW):
        m = min(FOLD_ROW, n - start)
        x, b = rows[:m], rows[FOLD_ROW : FOLD_ROW + m]
        acc, spare = rows[2 * FOLD_ROW : 2 * FOLD_ROW + m], rows[3 * FOLD_ROW : 3 * FOLD_ROW + m]
        if base:
            widen(at[0], start, dtypes[0], b)
        for i in range(base, k):
            wi = np.float32(w[i - base])
            if dtypes[i] == BF16:
                raw = array_at(at[i] + start * 2, m, np.uint16)
                _add_weighted_bf16(raw, b, base == 1, wi, i == base, acc)
            else:
                widen(at[i], start, dtypes[i], x)
                _add_weighted32(x, b, base == 1, wi, i == base, acc)
        if base:
            for j in range(m):
                acc[j] = b[j] + acc[j]
        top = max(top, largest_bits(acc))
        if out_code == BF16:
            round_to_bf16(acc, array_at(out + start * 2, m, np.uint16))
        elif out_code == F16:
            round_to_f16(acc, array_at(out + start * 2, m, np.uint16), spare)
        else:
            o32 = array_at(out + start * 4, m, np.float32)
            for j in range(m):
                o32[j] = acc[j]
    return 1 if top < _limit(out_code) else 0


def fold64(
    addresses: int,
    codes: int,
    weights: int,
    k: int,
    base: int,
    n: int,
    out: int,
    out_code: int,
    scratch: int,
) -> int:
    """Fold like `fold32`, in float64, rounded once to the output's dtype."""
    at, dtypes = array_at(addresses, k, np.int64), array_at(codes, k, np.int64)
    w = array_at(weights, k - base, np.float64)
    rows = array_at(scratch, 3 * FOLD_ROW, np.float64)
    narrow_rows = array_at(scratch + 3 * FOLD_ROW * 8, 2 * FOLD_ROW, np.float32)
    top = np.int32(0)
    bad = 0
    for start in range(0, n, FOLD_ROW):
        m = min(FOLD_ROW, n - start)
        x, b = rows[:m], rows[FOLD_ROW : FOLD_ROW + m]
        acc = rows[2 * FOLD_ROW : 2 * FOLD_ROW + m]
        narrow, spare = narrow_rows[:m], narrow_rows[FOLD_ROW : FOLD_ROW + m]
        if base:
            widen64(at[0], start, dtypes[0], narrow, b)
        for i in range(base, k):
            widen64(at[i], start, dtypes[i], narrow, x)
            _add_weighted64(x, b, base == 1, w[i - base], i == base, acc)
        if base:
            for j in range(m):
                acc[j] = b[j] + acc[j]
        if out_code == F64:
            o64 = array_at(out + start * 8, m, np.float64)
            for j in range(m):
                o64[j] = acc[j]
                bad += 0 if abs(acc[j]) < np.inf else 1
        elif out_code == F32:
            o32 = array_at(out + start * 4, m, np.float32)
            for j in range(m):
                narrow[j] = np.float32(acc[j])
                o32[j] = narrow[j]
            top = max(top, largest_bits(narrow))
        else:
            round_to_odd(acc, narrow)
            top = max(top, largest_bits(narrow))
            if out_code == BF16:
                round_to_bf16(narrow, array_at(out + start * 2, m, np.uint16))
            else:
                round_to_f16(narrow, array_at(out + start * 2, m, np.uint16), spare)
    return 1 if bad == 0 and (out_code == F64 or top < _limit(out_code)) else 0
