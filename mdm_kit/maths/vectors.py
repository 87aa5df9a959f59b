"""Tensors as vectors along an axis: inner products, sums, divergences, draws by rank."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.layouts import (
    CODES,
    divergence_scratch_nbytes,
    ranked_draws_scratch_nbytes,
    vectors_scratch_nbytes,
)
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.select import input_table

F64s = NDArray[np.float64]

_scratch = Scratch()
_sorting = Scratch()


def add_vector_products(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    base: bool,
    shape: tuple[int, int, int],
    wide: bool,
    out: F64s,
) -> None:
    """Add the inner products of a tile's vectors to `out` (outer * inner, pairs).

    The tile is `shape` = (outer, length, inner), its vectors in the middle. Inputs are given as in
    `fold`; with `base` the first is the base and the others are taken minus it. Pairs are (0,0),
    (1,0), (1,1), ...
    """
    k = len(addresses) - base
    inputs = input_table(addresses, dtypes)
    outer, length, inner = shape
    scratch = _scratch.address(vectors_scratch_nbytes(k))
    entry = native("vectors", "vector_products", 9)
    entry(
        ctypes.addressof(inputs), k, base, outer, length, inner, wide, out.ctypes.data, scratch
    )  # fmt: skip


def fold_vectors(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    base: bool,
    start: int,
    n: int,
    length: int,
    inner: int,
    wide: bool,
    factors: F64s,
    out: int,
    out_dtype: str,
) -> bool:
    """Write n elements from `start` on, each vector summed with its own factors (vectors, k).

    Returns whether all is finite. Inputs are as in `add_vector_products`; sums are float64.
    """
    k = len(addresses) - base
    inputs = input_table(addresses, dtypes)
    scratch = _scratch.address(vectors_scratch_nbytes(k))
    entry = native("vectors", "fold_vectors", 12)
    return bool(
        entry(
            ctypes.addressof(inputs),
            k,
            base,
            start,
            n,
            length,
            inner,
            wide,
            factors.ctypes.data,
            out,
            CODES[out_dtype],
            scratch,
        )
    )


def divergences(addresses: Sequence[int], dtypes: Sequence[str], *, length: int, out: F64s) -> None:
    """Write Σ p log(p/q) of each vector of `length` numbers to `out` (vectors,).

    q and p are softmax + 1e-8 of the first and the second input's vector.
    """
    inputs = input_table(addresses, dtypes)
    scratch = _scratch.address(divergence_scratch_nbytes(length))
    entry = native("divergence", "divergences", 5)
    entry(ctypes.addressof(inputs), len(out), length, out.ctypes.data, scratch)


def draw_by_rank(
    addresses: Sequence[int],
    dtypes: Sequence[str],
    *,
    start: int,
    shape: tuple[int, int, int],
    wide: bool,
    key: int,
    chances: tuple[float, float],
    bits: NDArray[np.uint8],
) -> None:
    """Set the bits of a tile's elements that a chance growing with their rank keeps.

    Inputs are the base and a model; `shape` is as in `add_vector_products`, `start` the tile's
    first element. `bits` are those of the whole tensor.
    """
    inputs = input_table(addresses, dtypes)
    outer, length, inner = shape
    p = (ctypes.c_double * 2)(*chances)
    scratch = _sorting.address(ranked_draws_scratch_nbytes(outer * length * inner, length))
    native("ranked_draws", "draw_by_rank", 10)(
        ctypes.addressof(inputs),
        start,
        outer,
        length,
        inner,
        wide,
        key - (1 << 64) if key >= 1 << 63 else key,
        ctypes.addressof(p),
        bits.ctypes.data,
        scratch,
    )
