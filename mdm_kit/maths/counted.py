"""Changes joined by how many models make them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.layouts import CODES, counted_scratch_nbytes
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import Stored

_scratch = Scratch()


def add_counted(
    tile: Stored, *, least: float, alone: Sequence[float], out: int, out_dtype: str
) -> bool:
    """Write base + Σ of changes above `least`, shared ones averaged; return whether all is finite.

    A change that is its model's alone is multiplied by `alone` (k,). The first input is the base;
    sums are float64, rounded once.
    """
    return _run(tile, (least, *alone), None, out, CODES[out_dtype])


def count_changes(tile: Stored, *, least: float, counts: NDArray[np.int64]) -> bool:
    """Fill `counts` (blocks, k, 2) with each model's shared and own changes above `least`.

    Returns whether all changes are finite.
    """
    return _run(tile, (least, *(1.0,) * tile.n_models), counts, 0, 0)


def _run(
    tile: Stored,
    numbers: Sequence[float],
    counts: NDArray[np.int64] | None,
    out: int,
    out_code: int,
) -> bool:
    inputs = tile.table()
    given = (ctypes.c_double * len(numbers))(*numbers)
    entry = native("counted", "counted", 9)
    return bool(
        entry(
            ctypes.addressof(inputs),
            tile.n_models,
            tile.n,
            tile.wide,
            ctypes.addressof(given),
            0 if counts is None else counts.ctypes.data,
            out,
            out_code,
            _scratch.address(counted_scratch_nbytes(tile.n_models)),
        )
    )
