"""A base moved towards one model by steps of limited size: one pass, in float64."""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import array_at
from mdm_kit.maths.kernels.scores import addresses, load_base_as64, load_delta_as64
from mdm_kit.maths.kernels.storing import store64
from mdm_kit.maths.layouts import FOLD_ROW as ROW

_LEAST = 1e-6
"""Differences count as no smaller when a step is divided by them, as in mergekit."""


def swapped(
    inputs: int, n: int, wide: int, step: int, out: int, out_code: int, scratch: int
) -> int:
    """Move the base towards one model by at most a step; return 1 if all is finite, else 0.

    `inputs` is as in `layouts.SelectArgs`, `step` the address of a float64; `scratch` is
    `layouts.SWAPPED_SCRATCH_NBYTES` long.
    """
    at, t = addresses(inputs, 1), array_at(step, 1, np.float64)[0]
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, 2 * ROW, np.float64)
    bad = 0
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        base32, b, d = narrow[:m], rows[:m], rows[ROW : ROW + m]
        load_base_as64(at[0], start, at[2], base32, b)
        x32 = narrow[ROW : ROW + m]
        load_delta_as64(at[1], start, at[3], wide, x32, base32, b, d)
        for j in range(m):
            size = abs(d[j])
            bad += 0 if size < np.inf else 1
            share = max(0.0, min(1.0, t / max(size, _LEAST)))
            d[j] = b[j] + share * d[j]
        if not store64(d, narrow[:m], x32, out, start, out_code):
            bad += 1
    return 1 if bad == 0 else 0
