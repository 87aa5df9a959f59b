"""Inner products of several models' changes of one tensor, tile by tile in float64."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.planner.costs import TILE_ELEMENTS
from mdm_kit.run.block_differences import other_bits, widened
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES, TensorInfo, shown

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor and the source that lends it."""

    source: Source
    info: TensorInfo

    def span(self, start: int, count: int) -> tuple[int, int]:
        """Return first byte and bytes of `count` elements from `start` on."""
        bits = DTYPES[self.info.dtype].bits
        return start * bits // 8, count * bits // 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """A tensor of the base beside those of models; `places` are the models' numbers."""

    name: str
    base: Stored
    models: tuple[Stored, ...]
    places: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers of a block: ‖base‖², what changed by model, inner products by pair."""
        k = len(self.models)
        return 1 + k + k * (k + 1) // 2

    @property
    def nbytes(self) -> int:
        """Bytes of all, as they are offered."""
        return sum(s.info.nbytes for s in (self.base, *self.models))


@dataclass(frozen=True, slots=True)
class Tile:
    """`count` elements from `start`, a block's first, on."""

    of: Comparison
    start: int
    count: int

    @property
    def is_last(self) -> bool:
        """Whether the tensor ends here."""
        return self.start + self.count == self.of.base.info.n_elements

    @property
    def read_nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.of.base, *self.of.models)
        return sum(s.span(self.start, self.count)[1] for s in parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return -(-self.count // BLOCK) * self.of.width * 8

    @property
    def lead(self) -> int:
        """Room in front of the result: none."""
        return 0

    def announce(self) -> int:
        """Tell far sources what is read, and return its bytes."""
        for s in (self.of.base, *self.of.models):
            s.source.expect(s.info, *s.span(self.start, self.count))
        return self.read_nbytes


def tiles_of(comparison: Comparison) -> Iterator[Tile]:
    """Yield the tiles of a tensor, in order."""
    n = comparison.base.info.n_elements
    for start in range(0, n, TILE_ELEMENTS):
        yield Tile(comparison, start, min(TILE_ELEMENTS, n - start))


class _Room(threading.local):
    """Where a thread widens its blocks, kept from block to block."""

    def __init__(self) -> None:
        self.held = np.empty((0, BLOCK))

    def of(self, n: int) -> Floats:
        if len(self.held) < n:
            self.held = np.empty((n, BLOCK))
        return self.held


_room = _Room()


def measure(tile: Tile, out: Floats) -> None:
    """Write the numbers of each block of a tile into `out` (blocks, width).

    Raises `NotFiniteError` for a NaN or an infinity.
    """
    parts = (tile.of.base, *tile.of.models)
    with ExitStack() as until:
        raw = []
        for s in parts:
            loan = s.source.lend(s.info, *s.span(tile.start, tile.count))
            until.callback(loan.release)
            raw.append(np.frombuffer(loan.view(), np.uint8))
        for i, row in enumerate(out):
            blocks = []
            for s, held in zip(parts, raw, strict=True):
                first, width = s.span(i * BLOCK, BLOCK)
                blocks.append(held[first : first + width])
            _measure_block(parts, blocks, row)
        del raw, blocks  # views of what is given back
    if not np.isfinite(out).all():
        raise NotFiniteError(
            f"{shown(tile.of.name)} of {', '.join(shown(s.info.source) for s in parts)}: a number "
            "is NaN or infinite; every weight must be a finite number. Get the model again"
        )


def _measure_block(parts: tuple[Stored, ...], blocks: list[Bytes], row: Floats) -> None:
    k = len(parts) - 1
    room = _room.of(k + 1)
    with np.errstate(all="ignore"):  # what is not finite is told of
        base = widened(blocks[0], parts[0].info.dtype, room[0])
        row[0] = _dot(base, base)
        at, changes = 1 + k, []
        for i in range(1, k + 1):
            change = widened(blocks[i], parts[i].info.dtype, room[i])
            change -= base
            if parts[i].info.dtype == parts[0].info.dtype:
                row[i] = other_bits(blocks[0], blocks[i], DTYPES[parts[i].info.dtype].bits)
            else:
                row[i] = np.count_nonzero(change)
            changes.append(change)
            for earlier in changes:
                row[at] = _dot(change, earlier)
                at += 1


def _dot(a: Floats, b: Floats) -> float:
    return float(np.einsum("i,i->", a, b))  # as in block_differences: BLAS cuts among threads
