"""A sum of changes where enough models stand behind it: one pass, in float64."""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import array_at
from mdm_kit.maths.kernels.scores import addresses, load_base_as64, load_delta_as64
from mdm_kit.maths.kernels.storing import store64
from mdm_kit.maths.layouts import FOLD_ROW as ROW


def agreed(
    inputs: int, k: int, n: int, wide: int, numbers: int, out: int, out_code: int, scratch: int
) -> int:
    """Add the weighted sum D of the changes where enough models stand behind it, else nothing.

    A model does where its |d| is `tall` times |D - d| at least. Return 1 if all changes are finite,
    else 0. `inputs` is as in `layouts.SelectArgs`; `numbers` (3 + k,) float64 are `tall`, how many
    models are enough, the factor of the sum, and the weights. `scratch` is
    `layouts.agreed_scratch_nbytes(k)` long.
    """
    at, given = addresses(inputs, k), array_at(numbers, 3 + k, np.float64)
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, (k + 3) * ROW, np.float64)
    tall, enough, factor = given[0], given[1], given[2]
    bad = 0
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        base32, x32, b = narrow[:m], narrow[ROW : ROW + m], rows[:m]
        total, many = rows[(k + 1) * ROW :][:m], rows[(k + 2) * ROW :][:m]
        load_base_as64(at[0], start, at[k + 1], base32, b)
        for j in range(m):
            total[j], many[j] = 0.0, 0.0
        for i in range(k):
            d = rows[(1 + i) * ROW :][:m]
            load_delta_as64(at[i + 1], start, at[k + 2 + i], wide, x32, base32, b, d)
            weight = given[3 + i]
            for j in range(m):
                bad += 0 if abs(d[j]) < np.inf else 1
                total[j] = total[j] + weight * d[j]
        for i in range(k):
            d = rows[(1 + i) * ROW :][:m]
            for j in range(m):
                many[j] = many[j] + (1.0 if abs(d[j]) >= tall * abs(total[j] - d[j]) else 0.0)
        for j in range(m):
            total[j] = b[j] + (factor * total[j] if many[j] >= enough else 0.0)
        if not store64(total, narrow[:m], x32, out, start, out_code):
            bad += 1
    return 1 if bad == 0 else 0
