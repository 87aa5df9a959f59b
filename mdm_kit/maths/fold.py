"""The fold of stored numbers on the CPU: base + Σ w_i (x_i - base), or Σ w_i x_i."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from mdm_kit.maths.layouts import CODES, FOLD_SCRATCH_NBYTES
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import input_table

_scratch = Scratch()


def fold(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    weights: Sequence[float],
    *,
    base: bool,
    wide: bool,
    n: int,
    out: int,
    out_dtype: str,
) -> bool:
    """Fold n elements; return whether every result is finite in `out_dtype`.

    Input i has its numbers at `addresses[i]` with the safetensors dtype `dtypes[i]`; with `base`
    the first is the base and the weights belong to the others. Arithmetic is float32, float64 if
    `wide`; n results are written at the address `out`, rounded once.
    """
    k = len(addresses)
    entry = native("fold", "fold64" if wide else "fold32", 9)
    w = (ctypes.c_double * len(weights))(*weights)
    at = input_table(addresses, dtypes)
    start = ctypes.addressof(at)
    scratch = _scratch.address(FOLD_SCRATCH_NBYTES)
    weights_at = ctypes.addressof(w)
    return bool(entry(start, start + 8 * k, weights_at, k, base, n, out, CODES[out_dtype], scratch))
