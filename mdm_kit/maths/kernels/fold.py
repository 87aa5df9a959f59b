"""The fold: base + Σ w_i (x_i - base), or Σ w_i x_i, in one pass from stored to stored numbers.

Every linear method ends here. Rows of 2,048 numbers are widened, subtracted, weighted, added and
rounded while they stay in the first-level cache, so a merge costs one read of its inputs and one
write of its output. Sums run in the order of the models; a product is rounded before it is added.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import U16, F32s, F64s, array_at, kernel
from mdm_kit.maths.kernels.lanes import widen, widen64, widened
from mdm_kit.maths.kernels.storing import store32, store64
from mdm_kit.maths.layouts import BF16, FOLD_ROW


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
    bad = 0
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
        if not store32(acc, spare, spare, out, start, out_code):
            bad += 1
    return 1 if bad == 0 else 0


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
        if not store64(acc, narrow, spare, out, start, out_code):
            bad += 1
    return 1 if bad == 0 else 0
