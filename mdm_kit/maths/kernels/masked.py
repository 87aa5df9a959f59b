"""Parts of changes: kept by rank or chance, counted or not by an elected sign, summed, added.

One pass from stored to stored numbers in rows of 2,048, or, with `sums`, one that sums what is
kept. Everything the rows are kept by is known before: limits of ranks, keys of draws, bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.kernels.jit import F32s, F64s, I64s, U32s, array_at, bits_of, kernel
from mdm_kit.maths.kernels.philox import random_row
from mdm_kit.maths.kernels.scores import (
    Row,
    addresses,
    fill_score,
    fill_spread,
    is_spread,
    load32,
    load64,
    load_delta,
)
from mdm_kit.maths.kernels.storing import store32, store64
from mdm_kit.maths.layouts import ALL, BITS, DRAWN, MASK_LANES, NONE, RANKED
from mdm_kit.maths.layouts import FOLD_ROW as ROW

_INPUTS, _K, _START, _N, _SCORE, _MASKS, _CUTS, _DIVERGENCE, _LENGTH = range(9)
_FACTORS, _ELECT, _NORMALIZE, _SCALE, _FLOOR, _SUMS, _OUT, _OUT_CODE, _SCRATCH = range(9, 18)
_MASK_WORDS = 6


def masked32(args: int) -> int:
    """Mask a tile in float32; return 1 if changes and results are finite, else 0.

    See `layouts.MaskArgs`.
    """
    a = array_at(args, 18, np.int64)
    narrow = array_at(a[_SCRATCH], 2 * ROW, np.float32)
    rows = array_at(a[_SCRATCH] + 2 * ROW * 4, (a[_K] + 5) * ROW, np.float32)
    limits = array_at(a[_SCRATCH] + 2 * ROW * 4 + (a[_K] + 4) * ROW * 4, 4, np.float32)
    behind = a[_SCRATCH] + 2 * ROW * 4 + (a[_K] + 5) * ROW * 8
    return _masked(a, rows, narrow, limits, behind, load32, store32)


def masked64(args: int) -> int:
    """Mask like `masked32`, in float64, rounded once to the output's dtype."""
    a = array_at(args, 18, np.int64)
    narrow = array_at(a[_SCRATCH], 2 * ROW, np.float32)
    rows = array_at(a[_SCRATCH] + 2 * ROW * 4, (a[_K] + 5) * ROW, np.float64)
    limits = array_at(a[_SCRATCH] + 2 * ROW * 4 + (a[_K] + 4) * ROW * 8, 4, np.float64)
    behind = a[_SCRATCH] + 2 * ROW * 4 + (a[_K] + 5) * ROW * 8
    return _masked(a, rows, narrow, limits, behind, load64, store64)


@kernel
def _masked(
    a: I64s, rows: Row, narrow: F32s, limits: Row, behind: int, load: Any, store: Any
) -> int:
    """The rows: the base, k changes, the scores, two to sum in, one for small things."""
    k, n = a[_K], a[_N]
    at = addresses(a[_INPUTS], k)
    ties = array_at(behind, 2 * k, np.int64)
    lanes = array_at(behind + 16 * k, 3 * k * MASK_LANES, np.float64)
    votes = array_at(behind + 16 * k + 3 * k * MASK_LANES * 8, ROW, np.float64)
    bad = 0
    for start in range(0, n, ROW):
        m = min(ROW, n - start)
        load(at[0], start, at[k + 1], narrow[:m], rows[:m])
        if start % BLOCK == 0:
            _begin_block(a, start // BLOCK, ties)
            for j in range(3 * k * MASK_LANES):
                lanes[j] = 0.0
        for i in range(k):
            d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
            load_delta(load, at[i + 1], start, at[k + 2 + i], narrow[:m], rows[:m], d)
            if not _is_finite(d):
                bad += 1
        if is_spread(a[_SCORE]):
            s = rows[(k + 1) * ROW : (k + 1) * ROW + m]
            fill_spread(rows[ROW : (k + 1) * ROW], k, ROW, m, s)
        for i in range(k):
            d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
            if a[_SUMS]:
                _add_sizes(d, lanes[3 * i * MASK_LANES : (3 * i + 1) * MASK_LANES])
            _keep(a, rows, narrow, limits, ties, start, m, i)
            if a[_SUMS]:
                _add_sizes(d, lanes[(3 * i + 1) * MASK_LANES : (3 * i + 2) * MASK_LANES])
                _add_squares(d, lanes[(3 * i + 2) * MASK_LANES : (3 * i + 3) * MASK_LANES])
        if a[_SUMS]:
            if start + m == n or (start + m) % BLOCK == 0:
                sums = array_at(a[_SUMS] + (start // BLOCK) * 3 * k * 8, 3 * k, np.float64)
                for i in range(3 * k):
                    total = 0.0
                    for j in range(MASK_LANES):
                        total += lanes[i * MASK_LANES + j]
                    sums[i] = total
            continue
        _sum(a, rows, votes, m)
        total_row = rows[(k + 2) * ROW : (k + 2) * ROW + m]
        if not store(total_row, narrow[:m], narrow[ROW : ROW + m], a[_OUT], start, a[_OUT_CODE]):
            bad += 1
    return 1 if bad == 0 else 0


@kernel
def _is_finite(d: Row) -> bool:
    bad = np.int32(0)
    for j in range(d.shape[0]):
        bad = np.int32(bad + np.int32(not (abs(d[j]) < np.inf)))
    return bool(bad == 0)


@kernel
def _begin_block(a: I64s, tile_block: int, ties: I64s) -> None:
    """Note how many elements at a limit are kept and dropped in the block that begins."""
    k = a[_K]
    masks = array_at(a[_MASKS], k * _MASK_WORDS, np.int64)
    block = a[_START] // BLOCK + tile_block
    for i in range(k):
        if masks[i * _MASK_WORDS] == RANKED:
            ties[2 * i] = array_at(masks[i * _MASK_WORDS + 1], block + 1, np.int32)[block]
            ties[2 * i + 1] = array_at(masks[i * _MASK_WORDS + 2], block + 1, np.int32)[block]


@kernel
def _keep(
    a: I64s, rows: Row, narrow: F32s, limits: Row, ties: I64s, start: int, m: int, i: int
) -> None:
    """Set to zero what is not kept of model i's change."""
    k = a[_K]
    mask = array_at(a[_MASKS] + i * _MASK_WORDS * 8, _MASK_WORDS, np.int64)
    d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
    if mask[0] == ALL:
        return
    if mask[0] == NONE:
        for j in range(m):
            d[j] = 0.0
        return
    place = a[_START] + start
    if mask[0] == DRAWN:
        u = bits_of(narrow[ROW : 2 * ROW], np.uint32)
        random_row(np.uint64(mask[3]), place // ROW, u)
        _keep_drawn(d, u, np.uint32(mask[4]))
    elif mask[0] == BITS:
        bits = array_at(mask[5] + place // 8, (m + 7) // 8, np.uint8)
        for j in range(m):
            kept = np.uint8(bits[j // 8] >> np.uint8(j % 8)) & np.uint8(1)
            d[j] = d[j] if kept != 0 else 0.0
    else:
        s = rows[(k + 1) * ROW : (k + 1) * ROW + m]
        if not is_spread(a[_SCORE]):
            length = a[_LENGTH]
            n_vectors = (a[_START] + a[_N] + length - 1) // length
            weights = array_at(a[_DIVERGENCE], n_vectors, np.float64)
            fill_score(a[_SCORE], d, place, weights, length, s)
        cuts = array_at(a[_CUTS] + 32 * i, 4, np.float64)
        for j in range(4):
            limits[j] = cuts[j]
        _keep_ranked(d, s, limits, ties[2 * i : 2 * i + 2])


@kernel
def _keep_drawn(d: Row, u: U32s, threshold: np.uint32) -> None:
    for j in range(d.shape[0]):
        d[j] = d[j] if u[j] < threshold else 0.0


@kernel
def _keep_ranked(d: Row, s: Row, limits: Row, ties: I64s) -> None:
    """Keep scores from the lower limit up to the upper one, of ties as many as are left."""
    some_kept = 0 < ties[0] < BLOCK
    some_dropped = 0 < ties[1] < BLOCK
    if not (some_kept or some_dropped):
        _trim(d, s, limits[0 if ties[0] else 1], limits[2 if ties[1] else 3])
        return
    for j in range(d.shape[0]):
        kept = s[j] >= limits[1]
        if s[j] == limits[0] and ties[0] > 0:
            kept = True
            ties[0] -= 1 if some_kept else 0
        dropped = s[j] >= limits[3]
        if s[j] == limits[2] and ties[1] > 0:
            dropped = True
            ties[1] -= 1 if some_dropped else 0
        d[j] = d[j] if kept and not dropped else 0.0


@kernel
def _trim(d: Row, s: Row, low: Any, high: Any) -> None:
    zero = d.dtype.type(0.0)
    for j in range(d.shape[0]):
        x = d[j] if s[j] >= low else zero
        d[j] = x if s[j] < high else zero


@kernel
def _add_sizes(d: Row, lanes: F64s) -> None:
    for first in range(0, d.shape[0], MASK_LANES):
        x = d[first : first + MASK_LANES]
        for j in range(x.shape[0]):
            lanes[j] += np.float64(abs(x[j]))


@kernel
def _add_squares(d: Row, lanes: F64s) -> None:
    for first in range(0, d.shape[0], MASK_LANES):
        x = d[first : first + MASK_LANES]
        for j in range(x.shape[0]):
            lanes[j] += np.float64(x[j]) * np.float64(x[j])


@kernel
def _sum(a: I64s, rows: Row, votes: F64s, m: int) -> None:
    """Fill the row behind the scores with base + scale · Σ of what counts, over its weights.

    Votes are float64 whatever the rows are: there changes times weights are exact, so that what
    cancels is zero in any order of the models.
    """
    k = a[_K]
    factors = array_at(a[_FACTORS], 3 * k, np.float64)
    numbers = bits_of(a[_SCALE : _FLOOR + 1], np.float64)
    scale, floor = rows.dtype.type(numbers[0]), rows.dtype.type(numbers[1])
    b = rows[:m]
    total = rows[(k + 2) * ROW : (k + 2) * ROW + m]
    divisor = rows[(k + 3) * ROW : (k + 3) * ROW + m]
    vote = votes[:m]
    for j in range(m):
        total[j], divisor[j], vote[j] = 0.0, 0.0, 0.0
    if a[_ELECT]:
        for i in range(k):
            d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
            share = np.float64(rows.dtype.type(factors[i]))
            for j in range(m):
                vote[j] = vote[j] + np.float64(d[j]) * share
    for i in range(k):
        d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
        e, f = rows.dtype.type(factors[i]), rows.dtype.type(factors[k + i])
        w = rows.dtype.type(factors[2 * k + i])
        if a[_ELECT]:
            for j in range(m):
                v = d[j] * e
                counts = ((v > 0.0) & (vote[j] >= 0.0)) | ((v < 0.0) & (vote[j] < 0.0))
                total[j] = total[j] + (d[j] * f if counts else d.dtype.type(0.0))
                divisor[j] = divisor[j] + (w if counts else d.dtype.type(0.0))
        else:
            for j in range(m):
                total[j] = total[j] + d[j] * f
    if a[_NORMALIZE]:
        for j in range(m):
            by = divisor[j]
            by = max(by, floor) if floor > 0.0 else (by if by != 0.0 else d.dtype.type(1.0))
            total[j] = b[j] + total[j] / by * scale
    else:
        for j in range(m):
            total[j] = b[j] + total[j] * scale
