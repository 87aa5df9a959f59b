"""A sum of changes, added where enough models stand behind it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from mdm_kit.maths.layouts import CODES, agreed_scratch_nbytes
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import Stored

_scratch = Scratch()


def add_agreed(
    tile: Stored,
    *,
    weights: Sequence[float],
    tall: float,
    agree: float,
    scale: float,
    out: int,
    out_dtype: str,
) -> bool:
    """Write base + `scale` D with D = Σ w_i d_i, without what too few agree on.

    Kept is an element where |d_i| is `tall` · |D - d_i| at least for `agree` models. Returns
    whether all is finite. The first input is the base; sums are float64, rounded once.
    """
    inputs = tile.table()
    numbers = (ctypes.c_double * (3 + tile.n_models))(tall, agree, scale, *weights)
    return bool(
        native("agreed", "agreed", 8)(
            ctypes.addressof(inputs),
            tile.n_models,
            tile.n,
            tile.wide,
            ctypes.addressof(numbers),
            out,
            CODES[out_dtype],
            _scratch.address(agreed_scratch_nbytes(tile.n_models)),
        )
    )
