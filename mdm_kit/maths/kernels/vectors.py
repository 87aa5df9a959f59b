"""Tensors as vectors along an axis: inner products, and sums with factors of their own.

A tile is (outer, length, inner) numbers, whole vectors, with the vectors in the middle.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import F32s, F64s, I64s, array_at, kernel
from mdm_kit.maths.kernels.scores import load_base_as64, load_delta_as64
from mdm_kit.maths.kernels.storing import store64
from mdm_kit.maths.layouts import FOLD_ROW as ROW


@kernel
def _fill(
    at: I64s, k: int, base: int, start: int, wide: int, narrow: F32s, rows: F64s, m: int
) -> None:
    """Fill the rows: the base, or zeros; then m numbers of each of k inputs minus the base."""
    base32, x32, b = narrow[:m], narrow[ROW : ROW + m], rows[:m]
    if base:
        load_base_as64(at[0], start, at[k + base], base32, b)
    else:
        for j in range(m):
            base32[j], b[j] = np.float32(0.0), 0.0
    for i in range(k):
        d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
        code = at[k + 2 * base + i]
        load_delta_as64(at[i + base], start, code, wide, x32, base32, b, d)


def vector_products(
    inputs: int, k: int, base: int, outer: int, length: int, inner: int, wide: int, out: int,
    scratch: int,
) -> int:  # fmt: skip
    """Add the inner products of each vector of k inputs at `out` (outer * inner, pairs); return 0.

    `inputs` has the addresses of the inputs (the base's first where `base` is 1), then their codes;
    pairs are (0,0), (1,0), (1,1), ... in float64. Deltas are rounded to float32 unless `wide` is 1.
    """
    at = array_at(inputs, 2 * (k + base), np.int64)
    pairs = k * (k + 1) // 2
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, (k + 3) * ROW, np.float64)
    products = array_at(out, outer * inner * pairs, np.float64)
    step = inner if inner > 1 else length
    for line in range(outer * length * inner // step):
        for first in range(0, step, ROW):
            m = min(ROW, step - first)
            _fill(at, k, base, line * step + first, wide, narrow, rows, m)
            p = 0
            for i in range(k):
                for h in range(i + 1):
                    x = rows[(1 + i) * ROW : (1 + i) * ROW + m]
                    y = rows[(1 + h) * ROW : (1 + h) * ROW + m]
                    if inner > 1:
                        vector = (line // length) * inner + first
                        for j in range(m):
                            products[(vector + j) * pairs + p] += x[j] * y[j]
                    else:
                        products[line * pairs + p] += _dot(x, y, rows[(k + 1) * ROW :])
                    p += 1
    return 0


@kernel
def _dot(x: F64s, y: F64s, lanes: F64s) -> float:
    s = lanes[:8]
    for j in range(8):
        s[j] = 0.0
    for first in range(0, x.shape[0] // 8 * 8, 8):
        for j in range(8):
            s[j] += x[first + j] * y[first + j]
    total = 0.0
    for j in range(8):
        total += s[j]
    for j in range(x.shape[0] // 8 * 8, x.shape[0]):
        total += x[j] * y[j]
    return total


def fold_vectors(
    inputs: int, k: int, base: int, start: int, n: int, length: int, inner: int, wide: int,
    factors: int, out: int, out_code: int, scratch: int,
) -> int:  # fmt: skip
    """Sum k inputs with each vector's own factors; return 1 if every result is finite, else 0.

    `factors` is (vectors, k) float64 for the whole tensor, of which this tile has the n elements
    from `start` on; they need not be whole vectors. Inputs are as in `vector_products`.
    """
    at = array_at(inputs, 2 * (k + base), np.int64)
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, (k + 3) * ROW, np.float64)
    n_vectors = ((start + n - 1) // (length * inner) + 1) * inner
    f = array_at(factors, n_vectors * k, np.float64)
    bad = 0
    for first in range(0, n, ROW):
        m = min(ROW, n - first)
        _fill(at, k, base, first, wide, narrow, rows, m)
        total = rows[(k + 1) * ROW : (k + 1) * ROW + m]
        for j in range(m):
            total[j] = 0.0
        j = 0
        while j < m:
            place = start + first + j
            # Up to here the next numbers lie in one vector, or in neighbouring ones.
            end = min(m, j + (inner - place % inner if inner > 1 else length - place % length))
            vector = place // (length * inner) * inner + place % inner
            for i in range(k):
                d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
                for h in range(j, end):
                    own = vector + h - j if inner > 1 else vector
                    total[h] = total[h] + d[h] * f[own * k + i]
            j = end
        b = rows[:m]
        for j in range(m):
            total[j] = b[j] + total[j]
        if not store64(total, narrow[:m], narrow[ROW : ROW + m], out, first, out_code):
            bad += 1
    return 1 if bad == 0 else 0
