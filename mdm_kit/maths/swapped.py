"""A base moved towards one model by steps of limited size."""

from __future__ import annotations

import ctypes

from mdm_kit.maths.layouts import CODES, SWAPPED_SCRATCH_NBYTES
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import Stored

_scratch = Scratch()


def step_towards(tile: Stored, *, step: float, out: int, out_dtype: str) -> bool:
    """Write the base moved towards the one model by at most `step`; return whether all is finite.

    Sums are float64, rounded once.
    """
    inputs, t = tile.table(), ctypes.c_double(step)
    return bool(
        native("swapped", "swapped", 7)(
            ctypes.addressof(inputs),
            tile.n,
            tile.wide,
            ctypes.addressof(t),
            out,
            CODES[out_dtype],
            _scratch.address(SWAPPED_SCRATCH_NBYTES),
        )
    )
