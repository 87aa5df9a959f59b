"""The largest change of each element: one pass, in float64."""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import array_at
from mdm_kit.maths.kernels.scores import addresses, load_base_as64, load_delta_as64
from mdm_kit.maths.kernels.storing import store64
from mdm_kit.maths.layouts import FOLD_ROW as ROW


def outdone(
    inputs: int, k: int, n: int, wide: int, scale: int, out: int, out_code: int, scratch: int
) -> int:
    """Add to the base the change of largest magnitude; return 1 if all changes are finite, else 0.

    Of equal magnitudes the last model's is taken. `inputs` is as in `layouts.SelectArgs`, `scale`
    the address of a float64; `scratch` is `layouts.OUTDONE_SCRATCH_NBYTES` long.
    """
    at, factor = addresses(inputs, k), array_at(scale, 1, np.float64)[0]
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, 3 * ROW, np.float64)
    bad = 0
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        base32, x32 = narrow[:m], narrow[ROW : ROW + m]
        b, d, largest = rows[:m], rows[ROW : ROW + m], rows[2 * ROW : 2 * ROW + m]
        load_base_as64(at[0], start, at[k + 1], base32, b)
        for j in range(m):
            largest[j] = 0.0
        for i in range(k):
            load_delta_as64(at[i + 1], start, at[k + 2 + i], wide, x32, base32, b, d)
            for j in range(m):
                bad += 0 if abs(d[j]) < np.inf else 1
                largest[j] = d[j] if abs(d[j]) >= abs(largest[j]) else largest[j]
        for j in range(m):
            largest[j] = b[j] + factor * largest[j]
        if not store64(largest, narrow[:m], x32, out, start, out_code):
            bad += 1
    return 1 if bad == 0 else 0
