"""The largest change of each element, added to the base."""

from __future__ import annotations

import ctypes

from mdm_kit.maths.layouts import CODES, OUTDONE_SCRATCH_NBYTES
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import Stored

_scratch = Scratch()


def add_largest(tile: Stored, *, scale: float, out: int, out_dtype: str) -> bool:
    """Write base + `scale` times the largest of the changes; return whether all is finite.

    The first input is the base; of equal magnitudes the last model's counts. Sums are float64,
    rounded once.
    """
    inputs, factor = tile.table(), ctypes.c_double(scale)
    return bool(
        native("outdone", "outdone", 8)(
            ctypes.addressof(inputs),
            tile.n_models,
            tile.n,
            tile.wide,
            ctypes.addressof(factor),
            out,
            CODES[out_dtype],
            _scratch.address(OUTDONE_SCRATCH_NBYTES),
        )
    )
