"""Changes added up one after the other, the sum rounded to float32 after each."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.layouts import ADDED_SCRATCH_NBYTES
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import Stored

F64s = NDArray[np.float64]

_scratch = Scratch()


def add_changes(
    tile: Stored,
    *,
    k: int,
    begun: bool,
    scale: float | None,
    energies: F64s,
    totals: F64s,
    total: int,
    before: int,
) -> None:
    """Write the sum of k models' changes to the address `total`, float32.

    Where it is `begun`, the tile's last input is what it begins with: a kept sum, or weights that
    hold `scale` times the sum. Squared norms of each change, and of the sum after it, are added to
    `energies` and `totals` (blocks, k). `before`, if not 0, takes the sum without the last change.
    """
    inputs = tile.table()
    factor = ctypes.c_double(scale or 0.0)
    native("added", "add_changes", 11)(
        ctypes.addressof(inputs),
        k,
        begun,
        ctypes.addressof(factor),
        tile.n,
        tile.wide,
        energies.ctypes.data,
        totals.ctypes.data,
        total,
        before,
        _scratch.address(ADDED_SCRATCH_NBYTES),
    )
