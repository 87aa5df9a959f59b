"""What changed between two models: each tensor of one beside its namesake, streamed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.planner.costs import TILE_ELEMENTS
from mdm_kit.run.block_differences import ROW, Rows, comparing
from mdm_kit.run.compared import Difference, Numbers, Products, TensorDifference
from mdm_kit.run.executor import Bytes, stream
from mdm_kit.run.foresight import Foresight
from mdm_kit.run.matching import Pair, matching
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES, TensorInfo


def differences(a: Source, b: Source, threads: int, advance: Callable[[int], object]) -> Difference:
    """Return how B differs from A, reading each tensor they share once, in constant memory.

    `advance` is told of bytes read, `matching(a, b).nbytes` in all, from the calling thread. The
    result depends neither on `threads` nor on how a model is cut into files. Raises `SourceError`
    and `IntegrityError` where a model cannot be read; models without a tensor in common are no
    error.
    """
    found = matching(a, b)
    measured: dict[str, TensorDifference] = {}
    held: list[Rows] = []

    def work(tile: _Tile, out: Bytes) -> None:
        _measure(tile, a, b, out.view(ROW))

    tiles = (tile for pair in found.pairs if pair.is_comparable for tile in _tiles_of(pair))

    def announce(tile: _Tile) -> int:
        for source, info in ((a, tile.pair.a), (b, tile.pair.b)):
            bits = DTYPES[info.dtype].bits
            source.expect(info, tile.start * bits // 8, tile.count * bits // 8)
        return tile.read_nbytes

    # Closed before the sources are: no worker may read what is no longer open.
    with (
        Foresight((a, b)) as foresight,
        closing(
            stream(foresight.ahead(tiles, announce), work, threads, foresight.give_up)
        ) as results,
    ):
        for tile, out in results:
            held.append(out.view(ROW).copy())
            advance(tile.read_nbytes)
            if tile.is_last:
                measured[tile.pair.name] = _joined(tile.pair, np.concatenate(held))
                held.clear()
    tensors = tuple(measured.get(p.name) or _joined(p, np.empty(0, ROW)) for p in found.pairs)
    return Difference(tensors, found.reshaped, found.only_a, found.only_b)


@dataclass(frozen=True, slots=True)
class _Tile:
    """`count` elements of both tensors of a pair from flat element `start`, a block's first, on."""

    pair: Pair
    start: int
    count: int

    @property
    def is_last(self) -> bool:
        """Whether the tensors end here."""
        return self.start + self.count == self.pair.a.n_elements

    @property
    def read_nbytes(self) -> int:
        """Bytes of both."""
        return sum(self.count * DTYPES[t.dtype].bits // 8 for t in (self.pair.a, self.pair.b))

    @property
    def nbytes(self) -> int:
        """Bytes of the result, one row for each block."""
        return -(-self.count // BLOCK) * ROW.itemsize

    @property
    def lead(self) -> int:
        """Room in front of the result: none."""
        return 0


def _tiles_of(pair: Pair) -> Iterator[_Tile]:
    n = pair.a.n_elements
    for start in range(0, n, TILE_ELEMENTS):
        yield _Tile(pair, start, min(TILE_ELEMENTS, n - start))


@contextmanager
def _borrowed(source: Source, info: TensorInfo, tile: _Tile) -> Iterator[NDArray[np.uint8]]:
    """Lend the bytes of one of a tile's two tensors."""
    bits = DTYPES[info.dtype].bits
    loan = source.lend(info, tile.start * bits // 8, tile.count * bits // 8)
    try:
        yield np.frombuffer(loan.view(), np.uint8)
    finally:
        loan.release()


def _measure(tile: _Tile, a: Source, b: Source, rows: Rows) -> None:
    """Write what is known of each block of a tile into `rows` (n_blocks,)."""
    pair = tile.pair
    compare = comparing(pair.a.dtype, pair.b.dtype)
    assert compare is not None  # noqa: S101 -- only comparable pairs have tiles
    width_a, width_b = (BLOCK * DTYPES[t.dtype].bits // 8 for t in (pair.a, pair.b))
    with _borrowed(a, pair.a, tile) as x, _borrowed(b, pair.b, tile) as y:
        for i in range(len(rows)):
            of_a, of_b = (
                slice(i * width_a, (i + 1) * width_a),
                slice(i * width_b, (i + 1) * width_b),
            )
            rows[i] = compare(x[of_a], y[of_b])


def _joined(pair: Pair, rows: Rows) -> TensorDifference:
    """Return how a tensor differs from its blocks (n_blocks,), whose sums join left to right."""
    if not pair.is_comparable:
        return TensorDifference(pair, None, None)
    n_changed = int(rows["changed"].sum())
    if not (DTYPES[pair.a.dtype].merges and DTYPES[pair.b.dtype].merges):
        return TensorDifference(pair, n_changed, None)

    def joined(column: str) -> float:
        # Not `sum`: from Python 3.12 on it compensates, and its bits are others.
        return reduce(operator.add, rows[column].tolist(), 0.0)

    products = Products(joined("aa"), joined("bb"), joined("ab"), joined("dd"))
    largest, largest_at = 0.0, None
    if len(rows):
        block = int(rows["largest"].argmax())
        largest = float(rows["largest"][block])
        largest_at = block * BLOCK + int(rows["largest_at"][block]) if largest else None
    lost_a, lost_b = int(rows["lost_a"].sum()), int(rows["lost_b"].sum())
    return TensorDifference(pair, n_changed, Numbers(products, largest, largest_at, lost_a, lost_b))
