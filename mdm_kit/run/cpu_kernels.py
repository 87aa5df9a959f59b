"""Tiles on the CPU: stored bytes in, stored bytes out, through the numba kernels."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from mdm_kit.maths.fold import fold32, fold64
from mdm_kit.maths.gram import gram_blocks
from mdm_kit.maths.lanes import CODES
from mdm_kit.planner.nodes import Read
from mdm_kit.run.executor import Bytes
from mdm_kit.run.tile import MeasureTile, Tile
from mdm_kit.run.weights import Weights
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES


class _Rows(threading.local):
    """A worker's own memory for inputs, one row each, reused from tile to tile."""

    def __init__(self) -> None:
        self.held = np.empty(0, np.uint8)

    def take(self, n_rows: int, nbytes: int) -> Bytes:
        """Return (n_rows, nbytes) uint8, rows starting at multiples of 64 bytes."""
        nbytes = -(-nbytes // 64) * 64
        if self.held.size < n_rows * nbytes:
            self.held = np.empty(n_rows * nbytes, np.uint8)
        return self.held[: n_rows * nbytes].reshape(n_rows, nbytes)


class CpuKernels:
    """Folds and measures tiles from `sources`; safe to call from many threads at once."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        """Read from `sources`, by name."""
        self._sources = sources
        self._rows = _Rows()

    def load(self, tile: Tile | MeasureTile, reads: Sequence[Read]) -> Bytes:
        """Return the tile's bytes of each input as rows (k, ...), valid until the next load."""
        widths = [DTYPES[r.info.dtype].bits for r in reads]
        rows = self._rows.take(len(reads), tile.count * max(widths) // 8)
        for row, read, width in zip(rows, reads, widths, strict=True):
            into = row[: tile.count * width // 8].data
            self._sources[read.info.source].read(read.info, into, tile.start * width // 8)
        return rows

    def fold(
        self,
        rows: Bytes,
        reads: Sequence[Read],
        *,
        base: bool,
        weights: Weights,
        tile: Tile,
        out: Bytes,
    ) -> bool:
        """Fold loaded rows into `out` (tile.nbytes,); return whether every value is finite.

        With `base`, the first row is the base and the weights belong to the others.
        """
        fold = fold64 if weights.wide else fold32
        views = (_view(out, np.uint16), _view(out, np.float32), _view(out, np.float64))
        return bool(
            fold(
                *_views(rows),
                _codes(reads),
                np.array(weights.values),
                base,
                tile.count,
                *views,
                CODES[tile.write.dtype],
            )
        )

    def measure(
        self, rows: Bytes, reads: Sequence[Read], count: int, *, wide: bool, exact: bool, out: Bytes
    ) -> None:
        """Write the inner products of each block of loaded rows (the base first) into `out`."""
        k = len(reads) - 1
        products = out.view(np.float64).reshape(-1, k * (k + 1) // 2)
        gram_blocks(*_views(rows), _codes(reads), count, wide, exact, products)


def _codes(reads: Sequence[Read]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([CODES[r.info.dtype] for r in reads], np.int64)


def _views(rows: Bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows.view(np.uint16), rows.view(np.float32), rows.view(np.float64)


def _view(out: Bytes, dtype: type) -> np.ndarray:
    width = np.dtype(dtype).itemsize
    return out[: out.size // width * width].view(dtype)
