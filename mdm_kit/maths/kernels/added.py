"""Changes added up one after the other, and the squared norms of each and of the sum after it.

The sum is rounded to float32 after every step, so that a merge can be left after any model and gone
on with from the sum alone.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.kernels.jit import F32s, F64s, array_at, kernel
from mdm_kit.maths.kernels.lanes import widen64
from mdm_kit.maths.kernels.scores import load_base_as64, load_delta_as64
from mdm_kit.maths.kernels.storing import store64
from mdm_kit.maths.layouts import F32
from mdm_kit.maths.layouts import FOLD_ROW as ROW


@kernel
def _square(x: F64s, lanes: F64s) -> float:
    for j in range(8):
        lanes[j] = 0.0
    whole = x.shape[0] // 8 * 8
    for first in range(0, whole, 8):
        for j in range(8):
            lanes[j] += x[first + j] * x[first + j]
    total = 0.0
    for j in range(8):
        total += lanes[j]
    for j in range(whole, x.shape[0]):
        total += x[j] * x[j]
    return total


@kernel
def _round_to_float32(x: F64s) -> None:
    for j in range(x.shape[0]):
        x[j] = np.float64(np.float32(x[j]))


@kernel
def _begin(at: int, start: int, code: int, scale: float, b: F64s, narrow: F32s, s: F64s) -> None:
    """Fill `s` with what is merged already: nothing, a kept sum, or what merged weights hold."""
    if at == 0:
        for j in range(s.shape[0]):
            s[j] = 0.0
        return
    widen64(at, start, code, narrow, s)
    if scale != 0.0:
        for j in range(s.shape[0]):
            s[j] = (s[j] - b[j]) / scale


def add_changes(
    inputs: int, k: int, begun: int, scale: int, n: int, wide: int, energies: int, totals: int,
    total: int, before: int, scratch: int,
) -> int:  # fmt: skip
    """Write the sum of k changes to `total`, n numbers of float32; return 0.

    `inputs` has the addresses of the base and the k models, where `begun` is 1 that of what the sum
    begins with, and then the codes of all. `scale` points to a float64: 0 where the sum begins
    with a kept sum, else what the sum in merged weights was multiplied by. `energies` and `totals`
    take (blocks, k) float64: squared norms of each change and of the sum after it. `before`, where
    it is not 0, takes the sum as it was before the last change.
    """
    m_in = k + 1 + begun
    at = array_at(inputs, 2 * m_in, np.int64)
    first_code = m_in
    factor = array_at(scale, 1, np.float64)[0]
    n_blocks = (n + BLOCK - 1) // BLOCK
    e, t = array_at(energies, n_blocks * k, np.float64), array_at(totals, n_blocks * k, np.float64)
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, 3 * ROW + 8, np.float64)
    lanes = rows[3 * ROW : 3 * ROW + 8]
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        block = start // BLOCK
        base32, x32, b = narrow[:m], narrow[ROW : ROW + m], rows[:m]
        spare = narrow[2 * ROW : 2 * ROW + m]
        d, s = rows[ROW : ROW + m], rows[2 * ROW : 2 * ROW + m]
        load_base_as64(at[0], start, at[first_code], base32, b)
        if begun:
            _begin(at[k + 1], start, at[first_code + k + 1], factor, b, x32, s)
        else:
            _begin(0, 0, 0, 0.0, b, x32, s)
        _round_to_float32(s)
        for i in range(k):
            if before != 0 and i == k - 1:
                store64(s, spare, x32, before, start, F32)
            load_delta_as64(at[1 + i], start, at[first_code + 1 + i], wide, x32, base32, b, d)
            for j in range(m):
                s[j] = s[j] + d[j]
            _round_to_float32(s)
            e[block * k + i] += _square(d, lanes)
            t[block * k + i] += _square(s, lanes)
        store64(s, spare, x32, total, start, F32)
    return 0
