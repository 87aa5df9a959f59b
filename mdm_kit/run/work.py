"""What a worker does with a tile: load, and then copy, measure or fold."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Protocol

import numpy as np

from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.maths.orthogonal import Gram, fsum, nearly_dependent
from mdm_kit.planner.nodes import Apply, Fold, Read, Same, Write
from mdm_kit.run.executor import Bytes
from mdm_kit.run.tile import MeasureTile, Tile
from mdm_kit.run.weights import Weights, known_weights, solve, solved_weights
from mdm_kit.words import DTYPES, shown

_TOO_LARGE = {"BF16": 3.3961775292304957e38, "F16": 65520.0, "F32": 3.4028235677973366e38}
"""Magnitudes that round to infinity: the middle between the largest number and the next power."""


class Kernels(Protocol):
    """The arithmetic of one device."""

    def load(self, tile: Tile | MeasureTile, reads: Sequence[Read]) -> Bytes:
        """Return the tile's bytes of each input as rows (k, ...), valid until the next load."""

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
        """Fold loaded rows into `out` (tile.nbytes,); return whether every value is finite."""

    def measure(
        self, rows: Bytes, reads: Sequence[Read], count: int, *, wide: bool, exact: bool, out: Bytes
    ) -> None:
        """Write the inner products of each block of loaded rows (the base first) into `out`."""


def inputs_of(write: Write) -> tuple[tuple[Read, ...], bool]:
    """Return the source tensors in the order kernels take them, and whether the first is a base."""
    root = write.root
    if isinstance(root, Same):
        return root.inputs, False
    apply = root.delta if isinstance(root, Fold) else root
    models = tuple(i if isinstance(i, Read) else i.source for i in apply.inputs)
    return ((root.base, *models), True) if isinstance(root, Fold) else (models, False)


@dataclass(slots=True)
class MeasureWork:
    """Measures tiles: float64 inner products of deltas, block by block."""

    kernels: Kernels

    def __call__(self, tile: MeasureTile, out: Bytes) -> None:
        """Fill `out` with the products of the tile's blocks."""
        reads, _ = inputs_of(tile.write)
        apply = tile.write.apply()
        wide = apply is not None and apply.compute == "float64"
        rows = self.kernels.load(tile, reads)
        self.kernels.measure(rows, reads, tile.count, wide=wide, exact=tile.exact, out=out)


def gram_of(write: Write, products: np.ndarray, *, exact: bool) -> Gram:
    """Join the products of a tensor's blocks (blocks, pairs), left to right.

    Raises `NotFiniteError` where a product is not finite: then a model holds a NaN or an infinity,
    or numbers whose squares leave float64.
    """
    # Not `sum`: from Python 3.12 on it compensates, and its bits are others.
    join = fsum if exact else partial(reduce, operator.add)
    finite = bool(np.isfinite(products).all())
    triangle = tuple(join(column) for column in products.T.tolist()) if finite else ()
    if not all(map(math.isfinite, triangle)) or not finite:
        raise NotFiniteError(
            f"{shown(write.name)}: the inner products of the changes are not finite, made from "
            f"{_parents(write)}; look for NaN or infinity in these models"
        )
    return Gram(triangle)


def _parents(write: Write) -> str:
    return ", ".join(shown(r.info.source) for r in write.reads())


@dataclass(slots=True)
class WriteWork:
    """Makes output tiles. `grams` collects what was measured on the way, by tensor name."""

    kernels: Kernels
    weights: Mapping[str, Weights]
    grams: dict[str, Gram]
    _known: dict[tuple[int, str], Weights] = field(default_factory=dict)

    def __call__(self, tile: Tile, out: Bytes) -> None:
        """Fill `out` (tile.nbytes,) with the bytes of the tile.

        Raises `MisfitError` where tensors that are copied differ, `NotFiniteError` where a result
        is not finite, and whatever a source raises.
        """
        reads, base = inputs_of(tile.write)
        rows = self.kernels.load(tile, reads)
        apply = tile.write.apply()
        if apply is None:
            _copy_equal(tile, reads, rows, out)
            return
        weights = self._weights(tile, apply, reads, rows)
        if not self.kernels.fold(rows, reads, base=base, weights=weights, tile=tile, out=out):
            raise NotFiniteError(self._not_finite(tile, reads, rows, base, weights))

    def _weights(self, tile: Tile, apply: Apply, reads: Sequence[Read], rows: Bytes) -> Weights:
        if apply.group is None:
            key = (id(apply.params), apply.compute)
            if key not in self._known:
                self._known[key] = known_weights(apply)
            return self._known[key]
        if not tile.whole:
            return self.weights[tile.write.name]
        gram = self._measured(tile, apply, reads, rows, exact=False)
        if nearly_dependent(gram):
            gram = self._measured(tile, apply, reads, rows, exact=True)
        self.grams[tile.write.name] = gram
        return solved_weights(apply, gram, solve(apply, [gram]))

    def _measured(
        self, tile: Tile, apply: Apply, reads: Sequence[Read], rows: Bytes, *, exact: bool
    ) -> Gram:
        measured = MeasureTile(tile.write, 0, tile.count, exact)
        out = np.empty(measured.nbytes, np.uint8)
        wide = apply.compute == "float64"
        self.kernels.measure(rows, reads, tile.count, wide=wide, exact=exact, out=out)
        products = out.view(np.float64).reshape(-1, measured.n_pairs)
        return gram_of(tile.write, products, exact=exact)

    def _not_finite(
        self, tile: Tile, reads: Sequence[Read], rows: Bytes, base: bool, weights: Weights
    ) -> str:
        finer = Write(tile.write.name, tile.write.shape, "F64", tile.count * 8, tile.write.root)
        values = np.empty(tile.count)
        self.kernels.fold(
            rows,
            reads,
            base=base,
            weights=Weights(weights.values, wide=True),
            tile=Tile(finer, tile.start, tile.count),
            out=values.view(np.uint8),
        )
        limit = _TOO_LARGE.get(tile.write.dtype, math.inf)
        bad = np.flatnonzero(~(np.abs(values) < limit))
        if not bad.size:
            return (
                f"{shown(tile.write.name)}: a step of the float32 arithmetic left its range, made "
                f"from {_parents(tile.write)}, although the result would not; "
                "write dtype: float64 and the out_dtype you want"
            )
        at = int(bad[0])
        return (
            f"{shown(tile.write.name)}: element {tile.start + at} of the result is {values[at]:g}, "
            f"made from {_parents(tile.write)}; every merged value must be a finite "
            f"{DTYPES[tile.write.dtype].torch_name}. Look for NaN or infinity in these models, "
            "smaller weights, or an out_dtype with a wider range"
        )


def _copy_equal(tile: Tile, reads: Sequence[Read], rows: Bytes, out: Bytes) -> None:
    out[:] = rows[0, : tile.nbytes]
    for read, row in zip(reads[1:], rows[1:], strict=True):
        if not np.array_equal(out, row[: tile.nbytes]):
            raise MisfitError(
                f"{shown(tile.write.name)} has dtype {tile.write.dtype}, which is copied and "
                f"not merged, but differs between {reads[0].info.source} and "
                f"{read.info.source}; merge only models that agree in it"
            )
