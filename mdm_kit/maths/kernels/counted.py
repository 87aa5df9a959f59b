"""Changes joined by how many models make them: one pass, in float64."""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.kernels.jit import F64s, array_at, kernel
from mdm_kit.maths.kernels.scores import addresses, load_base_as64, load_delta_as64
from mdm_kit.maths.kernels.storing import store64
from mdm_kit.maths.layouts import FOLD_ROW as ROW


def counted(
    inputs: int,
    k: int,
    n: int,
    wide: int,
    numbers: int,
    counts: int,
    out: int,
    out_code: int,
    scratch: int,
) -> int:
    """Add what one model changes and the mean of what several do; return 1 if all is finite.

    `inputs` is as in `layouts.SelectArgs`; `numbers` (1 + k,) float64 are the size from which on
    (above it) a change counts, and what each model's own changes are multiplied by. With `counts`
    nothing is written but, for each block, how many changes each model shares and has alone
    (blocks, k, 2) int64.
    """
    at, given = addresses(inputs, k), array_at(numbers, 1 + k, np.float64)
    narrow = array_at(scratch, 3 * ROW, np.float32)
    rows = array_at(scratch + 3 * ROW * 4, (k + 3) * ROW, np.float64)
    n_blocks = (n + BLOCK - 1) // BLOCK
    tally = array_at(counts, n_blocks * k * 2, np.int64)
    if counts:
        for j in range(n_blocks * k * 2):
            tally[j] = 0
    bad = 0
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        base32, b = narrow[:m], rows[:m]
        total, many = rows[(k + 1) * ROW : (k + 1) * ROW + m], rows[(k + 2) * ROW :][:m]
        load_base_as64(at[0], start, at[k + 1], base32, b)
        for j in range(m):
            total[j], many[j] = 0.0, 0.0
        for i in range(k):
            d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
            x32 = narrow[ROW : ROW + m]
            load_delta_as64(at[i + 1], start, at[k + 2 + i], wide, x32, base32, b, d)
            for j in range(m):
                bad += 0 if abs(d[j]) < np.inf else 1
                many[j] = many[j] + (1.0 if abs(d[j]) > given[0] else 0.0)
        for i in range(k):
            d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
            if counts:
                at_block = ((start // BLOCK) * k + i) * 2
                shared, alone = 0, 0
                for j in range(m):
                    changed = abs(d[j]) > given[0]
                    shared += 1 if changed and many[j] > 1.0 else 0
                    alone += 1 if changed and many[j] == 1.0 else 0
                tally[at_block] += shared
                tally[at_block + 1] += alone
            else:
                _add_counted(d, many, given[0], given[1 + i], total)
        if counts:
            continue
        for j in range(m):
            total[j] = b[j] + total[j]
        if not store64(total, narrow[:m], narrow[ROW : ROW + m], out, start, out_code):
            bad += 1
    return 1 if bad == 0 else 0


@kernel
def _add_counted(d: F64s, many: F64s, least: float, alone: float, total: F64s) -> None:
    for j in range(d.shape[0]):
        share = d[j] * alone if many[j] == 1.0 else d[j] / max(many[j], 1.0)
        total[j] = total[j] + (share if abs(d[j]) > least else 0.0)
