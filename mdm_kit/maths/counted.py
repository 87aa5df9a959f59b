"""Changes by how many models make them, and steps of limited size."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.layouts import CODES, counted_scratch_nbytes
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.select import input_table

_scratch = Scratch()


def add_counted(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    n: int,
    wide: bool,
    least: float,
    alone: Sequence[float],
    out: int,
    out_dtype: str,
) -> bool:
    """Write base + Σ of changes above `least`, shared ones averaged; return whether all is finite.

    A change that is its model's alone is multiplied by `alone` (k,). Inputs are given as in `fold`,
    the base first; deltas are formed in float32, in float64 if `wide`, sums in float64.
    """
    return _run(addresses, dtypes, n, wide, (least, *alone), None, out, CODES[out_dtype])


def count_changes(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    n: int,
    wide: bool,
    least: float,
    counts: NDArray[np.int64],
) -> bool:
    """Fill `counts` (blocks, k, 2) with each model's shared and own changes above `least`.

    Returns whether all changes are finite.
    """
    ones = (1.0,) * (len(addresses) - 1)
    return _run(addresses, dtypes, n, wide, (least, *ones), counts, 0, 0)


def _run(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    n: int,
    wide: bool,
    numbers: Sequence[float],
    counts: NDArray[np.int64] | None,
    out: int,
    out_code: int,
) -> bool:
    k = len(addresses) - 1
    inputs = input_table(addresses, dtypes)
    given = (ctypes.c_double * len(numbers))(*numbers)
    entry = native("counted", "counted", 9)
    return bool(
        entry(
            ctypes.addressof(inputs),
            k,
            n,
            wide,
            ctypes.addressof(given),
            0 if counts is None else counts.ctypes.data,
            out,
            out_code,
            _scratch.address(counted_scratch_nbytes(k)),
        )
    )


def step_towards(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    n: int,
    wide: bool,
    step: float,
    out: int,
    out_dtype: str,
) -> bool:
    """Write the base moved towards one model by at most `step`; return whether all is finite.

    Inputs and precision are as in `add_counted`.
    """
    inputs, t = input_table(addresses, dtypes), ctypes.c_double(step)
    return bool(
        native("counted", "swapped", 7)(
            ctypes.addressof(inputs),
            n,
            wide,
            ctypes.addressof(t),
            out,
            CODES[out_dtype],
            _scratch.address(counted_scratch_nbytes(1)),
        )
    )
