"""One tile's part in selections: scores counted and collected between pivots, or sampled."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.layouts import (
    FOLD_ROW,
    N_COUNTS,
    SAMPLE_GROUP,
    SAMPLE_RUN,
    SelectArgs,
    select_scratch_nbytes,
)
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import Stored

Scores = NDArray[Any]
Counts = NDArray[np.int64]

EVERYTHING = (-1.0, math.inf)
"""Pivots that all finite scores lie between."""

_scratch = Scratch()
_collected = Scratch()


@dataclass(frozen=True, slots=True)
class Scoring:
    """What elements are selected by: a score of `layouts`, and for importance the divergences.

    `divergence` (vectors,) float64 is that of the tensor's vectors of `length` numbers.
    """

    score: int
    divergence: NDArray[np.float64] | None = None
    length: int = 1


def select_tile(
    tile: Stored,
    *,
    scoring: Scoring,
    models: Sequence[int],
    pivots: Sequence[tuple[float, float]],
    sample: bool,
) -> tuple[Counts, list[Scores], list[bool]]:
    """Return what a tile has between pivots; its first input is the base.

    `models` and `pivots` (lower, upper) have one entry for each selection. Returns counts (blocks,
    selections, `N_COUNTS`), each selection's scores between the pivots in the tensor's order
    (float32, float64 where the tile is wide), and whether they are all of them. With `sample`
    counts mean nothing and the scores are a sample.
    """
    n, wide, s = tile.n, tile.wide, len(models)
    real: Any = np.float64 if wide else np.float32
    capacity = n if any(p == EVERYTHING for p in pivots) else n // 4
    if sample:
        capacity = SAMPLE_RUN * (n // SAMPLE_GROUP + 1)
    counts = np.empty((-(-n // BLOCK), s, N_COUNTS), np.int64)
    got = np.empty(s, np.int64)
    at_models, at_pivots = np.array(models, np.int64), np.array(pivots, np.float64)
    inputs = tile.table()
    width = np.dtype(real).itemsize
    stride = capacity + FOLD_ROW
    scores = _collected.address(s * stride * width)
    args = np.array(
        SelectArgs(
            inputs=ctypes.addressof(inputs),
            k=tile.n_models,
            start=tile.start,
            n=n,
            score=scoring.score,
            n_selections=s,
            models=at_models.ctypes.data,
            pivots=at_pivots.ctypes.data,
            counts=counts.ctypes.data,
            scores=scores,
            capacity=capacity,
            got=got.ctypes.data,
            divergence=0 if scoring.divergence is None else scoring.divergence.ctypes.data,
            length=scoring.length,
            sample=sample,
            scratch=_scratch.address(select_scratch_nbytes(tile.n_models)),
        ),
        np.int64,
    )
    native("select", "select64" if wide else "select32", 1)(args.ctypes.data)
    found = []
    for p in range(s):
        held: Any = (ctypes.c_ubyte * (int(got[p]) * width)).from_address(
            scores + p * stride * width
        )
        found.append(np.frombuffer(held, real).copy())
    return counts, found, [bool(g <= capacity) for g in got]
