"""Finds scores between two pivots: the pass over a tensor that an exact selection needs.

Counts and the scores between the pivots are all that is left to look at (`maths.selection`).
Whatever the pivots are, the selection comes out the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.kernels.jit import F32s, I64s, array_at, kernel
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
from mdm_kit.maths.layouts import FOLD_ROW as ROW
from mdm_kit.maths.layouts import N_COUNTS, SAMPLE_GROUP, SAMPLE_RUN

_INPUTS, _K, _START, _N, _SCORE, _N_SELECTIONS, _MODELS, _PIVOTS = range(8)
_COUNTS, _SCORES, _CAPACITY, _GOT, _DIVERGENCE, _LENGTH, _SAMPLE, _SCRATCH = range(8, 16)


def select32(args: int) -> int:
    """Count and collect the scores of a tile in float32; return 0. See `layouts.SelectArgs`."""
    a = array_at(args, 16, np.int64)
    rows = array_at(a[_SCRATCH] + ROW * 4, (a[_K] + 3) * ROW, np.float32)
    pivots = array_at(a[_PIVOTS], 2 * a[_N_SELECTIONS], np.float64)
    kept = array_at(a[_SCORES], a[_N_SELECTIONS] * (a[_CAPACITY] + ROW), np.float32)
    narrow = array_at(a[_SCRATCH], ROW, np.float32)
    limits = array_at(a[_SCRATCH] + (a[_K] + 4) * ROW * 4, 2, np.float32)
    _select(a, rows, narrow, pivots, limits, kept, load32)
    return 0


def select64(args: int) -> int:
    """Do in float64 what `select32` does."""
    a = array_at(args, 16, np.int64)
    rows = array_at(a[_SCRATCH] + ROW * 4, (a[_K] + 3) * ROW, np.float64)
    pivots = array_at(a[_PIVOTS], 2 * a[_N_SELECTIONS], np.float64)
    kept = array_at(a[_SCORES], a[_N_SELECTIONS] * (a[_CAPACITY] + ROW), np.float64)
    narrow = array_at(a[_SCRATCH], ROW, np.float32)
    limits = array_at(a[_SCRATCH] + ROW * 4 + (a[_K] + 2) * ROW * 8, 2, np.float64)
    _select(a, rows, narrow, pivots, limits, kept, load64)
    return 0


@kernel
def _select(
    a: I64s, rows: Row, narrow: F32s, pivots: Row, limits: Row, kept: Row, load: Any
) -> None:
    n, n_selections, capacity = a[_N], a[_N_SELECTIONS], a[_CAPACITY]
    n_blocks = (n + BLOCK - 1) // BLOCK
    counts = array_at(a[_COUNTS], n_blocks * n_selections * N_COUNTS, np.int64)
    got = array_at(a[_GOT], n_selections, np.int64)
    models = array_at(a[_MODELS], n_selections, np.int64)
    at = addresses(a[_INPUTS], a[_K])
    for p in range(n_selections):
        got[p] = 0
    for j in range(n_blocks * n_selections * N_COUNTS):
        counts[j] = 0
    sample = a[_SAMPLE] != 0
    for first in range(0, n, SAMPLE_GROUP if sample else ROW):
        start, m = first, min(ROW, n - first)
        if sample:
            m = min(SAMPLE_RUN, n - first)
            start = first + _jitter(a[_START] + first, min(SAMPLE_GROUP, n - first) - m)
        load(at[0], start, at[a[_K] + 1], narrow[:m], rows[:m])
        for p in range(n_selections):
            # Where all models make one score, and for one model's next rank, it is there already.
            if p == 0 or not (is_spread(a[_SCORE]) or models[p] == models[p - 1]):
                _fill(a, rows, narrow, start, m, models[p], load)
            s = rows[(a[_K] + 1) * ROW : (a[_K] + 1) * ROW + m]
            room = kept[p * (capacity + ROW) : (p + 1) * (capacity + ROW)]
            if sample:
                for j in range(m):
                    room[got[p] + j] = s[j]
                got[p] += m
                continue
            # In the precision of the scores, which the pivots have been once already.
            limits[0], limits[1] = pivots[2 * p], pivots[2 * p + 1]
            block = ((start // BLOCK) * n_selections + p) * N_COUNTS
            c = counts[block : block + N_COUNTS]
            _count(s, limits[0], limits[1], c)
            if is_spread(a[_SCORE]):
                _count_alive(s, c)
            if got[p] <= capacity:
                got[p] = _collect(s, limits[0], limits[1], room, got[p], a[_SCRATCH])


@kernel
def _jitter(place: int, free: int) -> int:
    """Return a number up to `free` that looks drawn, so that no column of a matrix is preferred."""
    mixed = np.uint64(np.uint64(place) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    return int(np.uint64(mixed) % np.uint64(free + 1))


@kernel
def _fill(a: I64s, rows: Row, narrow: F32s, start: int, m: int, model: int, load: Any) -> None:
    """Fill the row behind the models' with the scores of m elements; the base's row is filled."""
    at = addresses(a[_INPUTS], a[_K])
    k = a[_K]
    spread = is_spread(a[_SCORE])
    for i in range(0 if spread else model, k if spread else model + 1):
        d = rows[(1 + i) * ROW : (1 + i) * ROW + m]
        load_delta(load, at[i + 1], start, at[k + 2 + i], narrow[:m], rows[:m], d)
    s = rows[(k + 1) * ROW : (k + 1) * ROW + m]
    if spread:
        fill_spread(rows[ROW : (k + 1) * ROW], k, ROW, m, s)
        return
    length = a[_LENGTH]
    n_vectors = (a[_START] + a[_N] + length - 1) // length
    weights = array_at(a[_DIVERGENCE], n_vectors, np.float64)
    d = rows[(1 + model) * ROW : (1 + model) * ROW + m]
    fill_score(a[_SCORE], d, a[_START] + start, weights, length, s)


@kernel
def _count(s: Row, lo: Any, hi: Any, c: I64s) -> None:
    above, from_hi, over, from_lo = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for j in range(s.shape[0]):
        x = s[j]
        above = np.int32(above + np.int32(x > hi))
        from_hi = np.int32(from_hi + np.int32(x >= hi))
        over = np.int32(over + np.int32(x > lo))
        from_lo = np.int32(from_lo + np.int32(x >= lo))
    c[0] += above
    c[1] += from_hi - above
    c[2] += over - from_hi
    c[3] += from_lo - over


@kernel
def _count_alive(s: Row, c: I64s) -> None:
    alive = np.int32(0)
    for j in range(s.shape[0]):
        alive = np.int32(alive + np.int32(s[j] != 0))
    c[4] += alive


@kernel
def _collect(s: Row, lo: Any, hi: Any, kept: Row, at: int, flags: int) -> int:
    """Write the scores between the pivots to `kept` from `at` on; return where they end.

    Few are. So they are flagged in bytes first, of which eight are then looked at together;
    `flags` is the address of 2048 bytes.
    """
    m = s.shape[0]
    inside = array_at(flags, ROW, np.uint8)
    for j in range(m):
        inside[j] = np.uint8((s[j] > lo) & (s[j] < hi))
    eights = array_at(flags, ROW // 8, np.uint64)
    for group in range(m // 8):
        if eights[group] != 0:
            for j in range(8 * group, 8 * group + 8):
                kept[at] = s[j]
                at += int(inside[j])
    for j in range(m // 8 * 8, m):
        kept[at] = s[j]
        at += int(inside[j])
    return at
