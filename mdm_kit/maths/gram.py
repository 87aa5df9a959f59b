"""Inner products of deltas of stored numbers on the CPU, block by block."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from mdm_kit.maths.layouts import gram_scratch_nbytes
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.stored import input_table

_scratch = Scratch()


def gram_blocks(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    base: bool = True,
    known: int,
    n: int,
    wide: bool,
    exact: bool,
    out: int,
) -> None:
    """Write the inner products of each block of 65,536 elements at the address `out`.

    Inputs are given as in `fold`, the base first; without `base` the products are those of the
    inputs themselves. `out` takes (blocks, pairs) float64, pairs in the
    order (0,0), (1,0), (1,1), (2,0), ... without those of the first `known` models alone. Deltas
    are formed in float32, in float64 if `wide`; with `exact` sums are compensated.
    """
    k = len(addresses)
    at = input_table(addresses, dtypes)
    start = ctypes.addressof(at)
    scratch = _scratch.address(gram_scratch_nbytes(k + 1 - base))
    entry = native("gram", "gram_blocks", 10)
    entry(start, start + 8 * k, k, base, known, n, wide, exact, out, scratch)
