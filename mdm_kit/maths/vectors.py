"""Tensors as vectors along an axis: inner products, sums, divergences, draws by rank."""

from __future__ import annotations

import ctypes

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
from mdm_kit.maths.stored import Stored

F64s = NDArray[np.float64]

_scratch = Scratch()
_sorting = Scratch()


def add_vector_products(
    tile: Stored, *, base: bool, shape: tuple[int, int, int], out: F64s
) -> None:
    """Add the inner products of a tile's vectors to `out` (outer * inner, pairs).

    The tile is `shape` = (outer, length, inner), its vectors in the middle. With `base` the first
    input is the base and the others are taken minus it. Pairs are (0,0), (1,0), (1,1), ...
    """
    k = len(tile.addresses) - base
    inputs = tile.table()
    scratch = _scratch.address(vectors_scratch_nbytes(k))
    entry = native("vectors", "vector_products", 9)
    entry(ctypes.addressof(inputs), k, base, *shape, tile.wide, out.ctypes.data, scratch)


def fold_vectors(
    tile: Stored,
    *,
    base: bool,
    length: int,
    inner: int,
    factors: F64s,
    out: int,
    out_dtype: str,
) -> bool:
    """Write a tile, each vector summed with its own factors (vectors, k); return if all is finite.

    The tensor's vectors have `length` elements, `inner` apart. With `base` the first input is the
    base. Sums are float64, rounded once.
    """
    k = len(tile.addresses) - base
    inputs = tile.table()
    entry = native("vectors", "fold_vectors", 12)
    return bool(
        entry(
            ctypes.addressof(inputs),
            k,
            base,
            tile.start,
            tile.n,
            length,
            inner,
            tile.wide,
            factors.ctypes.data,
            out,
            CODES[out_dtype],
            _scratch.address(vectors_scratch_nbytes(k)),
        )
    )


def divergences(tile: Stored, *, length: int, out: F64s) -> None:
    """Write Σ p log(p/q) of each of a tile's vectors of `length` numbers to `out` (vectors,).

    q and p are softmax + 1e-8 of the first and the second input's vector.
    """
    inputs = tile.table()
    scratch = _scratch.address(divergence_scratch_nbytes(length))
    entry = native("divergence", "divergences", 5)
    entry(ctypes.addressof(inputs), len(out), length, out.ctypes.data, scratch)


def draw_by_rank(
    tile: Stored,
    *,
    shape: tuple[int, int, int],
    key: int,
    chances: tuple[float, float],
    bits: NDArray[np.uint8],
) -> None:
    """Set the bits of a tile's elements that a chance growing with their rank keeps.

    The inputs are a base and one model; `shape` is as in `add_vector_products`, `key` an int64.
    `bits` are those of the whole tensor.
    """
    inputs = tile.table()
    p = (ctypes.c_double * 2)(*chances)
    native("ranked_draws", "draw_by_rank", 10)(
        ctypes.addressof(inputs),
        tile.start,
        *shape,
        tile.wide,
        key,
        ctypes.addressof(p),
        bits.ctypes.data,
        _sorting.address(ranked_draws_scratch_nbytes(tile.n, shape[1])),
    )
