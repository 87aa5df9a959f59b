"""Tiles: the pieces of an output tensor that are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.planner.costs import TILE_ELEMENTS
from mdm_kit.planner.nodes import Write
from mdm_kit.words import DTYPES


@dataclass(frozen=True, slots=True)
class Tile:
    """`count` elements of an output tensor from its flat element `start` on.

    `whole` says that the tensor's coefficients are not known before its inputs are: the tile is the
    whole tensor, measured, solved and folded in one reading.
    """

    write: Write
    start: int
    count: int
    whole: bool = False

    @property
    def nbytes(self) -> int:
        """How many output bytes the tile has."""
        return self.count * DTYPES[self.write.dtype].bits // 8


@dataclass(frozen=True, slots=True)
class MeasureTile:
    """Elements of a tensor whose inner products are wanted; `exact` asks for compensated sums."""

    write: Write
    start: int
    count: int
    exact: bool

    @property
    def n_pairs(self) -> int:
        """How many inner products k deltas have."""
        apply = self.write.apply()
        k = len(apply.inputs) if apply else 0
        return k * (k + 1) // 2

    @property
    def nbytes(self) -> int:
        """Bytes of the result: a float64 for each block and pair."""
        return -(-self.count // BLOCK) * self.n_pairs * 8


def n_elements(write: Write) -> int:
    """Return the number of elements of an output tensor."""
    return write.nbytes * 8 // DTYPES[write.dtype].bits


def tiles_of(write: Write, *, whole: bool) -> Iterator[Tile]:
    """Yield the tiles of an output tensor, first element first; none for an empty tensor."""
    n = n_elements(write)
    if whole:
        if n:
            yield Tile(write, 0, n, whole=True)
        return
    for start in range(0, n, TILE_ELEMENTS):
        yield Tile(write, start, min(TILE_ELEMENTS, n - start))


def measure_tiles_of(write: Write, *, exact: bool) -> Iterator[MeasureTile]:
    """Yield what is measured of a tensor, in whole blocks from its first element on."""
    n = n_elements(write)
    for start in range(0, n, TILE_ELEMENTS):
        yield MeasureTile(write, start, min(TILE_ELEMENTS, n - start), exact)
