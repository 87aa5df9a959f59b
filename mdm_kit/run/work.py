"""What a worker does with a tile: borrow its inputs, and then copy, measure or fold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.ledger.products import Products
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.nodes import Apply, Fold, Read, Same, Write
from mdm_kit.planner.solving import Group, is_blurred
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.profile import Profile
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import Batch, MeasureTile, Tile, measure_tiles_of
from mdm_kit.run.weights import Weights, known_weights, solve_groups
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES, shown

_TOO_LARGE = {"BF16": 3.3961775292304957e38, "F16": 65520.0, "F32": 3.4028235677973366e38}
"""Magnitudes that round to infinity: the middle between the largest number and the next power."""


class Kernels(Protocol):
    """The arithmetic of one device."""

    def fold(
        self, inputs: Inputs, out: Bytes, out_dtype: str, *, base: bool, weights: Weights
    ) -> bool:
        """Fold inputs into `out`, rounded to `out_dtype`; return whether every value is finite."""

    def measure(
        self, inputs: Inputs, out: NDArray[np.float64], *, known: int, wide: bool, exact: bool
    ) -> None:
        """Write the inner products of inputs (the base first) into `out` (blocks, pairs).

        Without those that the first `known` models have among one another.
        """


def inputs_of(write: Write) -> tuple[tuple[Read, ...], bool]:
    """Return the source tensors in the order kernels take them, and whether the first is a base."""
    root = write.root
    if isinstance(root, Same):
        return root.inputs, False
    apply = root.delta if isinstance(root, Fold) else root
    models = tuple(i if isinstance(i, Read) else i.source for i in apply.inputs)
    return ((root.base, *models), True) if isinstance(root, Fold) else (models, False)


@dataclass(slots=True)
class Work:
    """Does the jobs of a merge.

    `grams`, `exact` (compensated sums) and `weights`, all by tensor name, and `groups` grow by what
    is measured on the way. `known` are products of the first models, from an earlier merge.
    """

    kernels: Kernels
    sources: Mapping[str, Source]
    weights: dict[str, Weights] = field(default_factory=dict)
    known: Products = field(default_factory=Products)
    grams: dict[str, Gram] = field(default_factory=dict)
    exact: dict[str, Gram] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    _known: dict[tuple[int, str], Weights] = field(default_factory=dict)

    def __call__(self, job: Batch | MeasureTile, out: Bytes) -> None:
        """Measure a tile, or fill `out` (job.nbytes,) with the bytes of a batch.

        Raises `MisfitError` where tensors that are copied differ, `NotFiniteError` where a result
        is not finite, and whatever a source raises.
        """
        if isinstance(job, MeasureTile):
            self._measure(job)
            return
        at = 0
        for tile in job.tiles:
            self._write(tile, out[at : at + tile.nbytes])
            at += tile.nbytes

    def _measure(self, tile: MeasureTile) -> None:
        reads, _ = inputs_of(tile.into.write)
        try:
            with self._inputs(reads, tile.start, tile.count) as inputs:
                self._measure_inputs(tile.into, tile.start, inputs)
        except BaseException:
            tile.into.give_up()
            raise

    def _measure_inputs(self, into: Tally, start: int, inputs: Inputs) -> None:
        apply = into.write.apply()
        wide = apply is not None and apply.compute == "float64"
        rows = into.rows(start, inputs.count)
        with self.profile.during("measure", inputs.nbytes):
            self.kernels.measure(inputs, rows, known=into.n_known, wide=wide, exact=into.exact)
        into.done(inputs.count)

    def _write(self, tile: Tile, out: Bytes) -> None:
        reads, base = inputs_of(tile.write)
        apply = tile.write.apply()
        with self._inputs(reads, tile.start, tile.count) as inputs:
            if apply is None:
                _copy_equal(tile, reads, inputs, out)
                return
            weights = self._weights(tile, apply, inputs)
            dtype = tile.write.dtype
            with self.profile.during("fold", inputs.nbytes):
                finite = self.kernels.fold(inputs, out, dtype, base=base, weights=weights)
            if not finite:
                raise NotFiniteError(self._not_finite(tile, inputs, base, weights))

    def _inputs(self, reads: Sequence[Read], start: int, count: int) -> Inputs:
        inputs = Inputs(self.sources, reads, start, count)
        with self.profile.during("read", inputs.nbytes):
            inputs.borrow()
        return inputs

    def _weights(self, tile: Tile, apply: Apply, inputs: Inputs) -> Weights:
        if apply.weights is not None:
            return known_weights(apply)
        if apply.group is None:
            key = (id(apply.params), apply.compute)
            if key not in self._known:
                self._known[key] = known_weights(apply)
            return self._known[key]
        if tile.measured is not None:
            with tile.measured.settling:
                if tile.write.name not in self.weights:
                    self._settle(tile, tile.measured, inputs)
        return self.weights[tile.write.name]

    def tally(self, write: Write, *, exact: bool) -> Tally:
        """Return an empty tally for a tensor that is to be measured."""
        known = self.known.exact if exact else self.known.plain
        return Tally(write, exact=exact, known=known.get(write.name))

    def solve(self, writes: Sequence[Write]) -> None:
        """Solve the groups of tensors whose Gram matrices are all known."""
        groups, weights = solve_groups(writes, self.grams, self.exact)
        self.groups |= groups
        self.weights |= weights

    def _settle(self, tile: Tile, measured: Tally, inputs: Inputs) -> None:
        """Find the weights of a tensor that is measured on the way."""
        if tile.is_whole:
            self._measure_inputs(measured, 0, inputs)
        name = tile.write.name
        self.grams[name] = measured.gram()
        if is_blurred([self.grams[name]]) and name not in self.exact:
            exact = self.tally(tile.write, exact=True)
            for part in measure_tiles_of(exact, tile.count):
                self._measure(part)
            self.exact[name] = exact.gram()
        self.solve([tile.write])

    def _not_finite(self, tile: Tile, inputs: Inputs, base: bool, weights: Weights) -> str:
        values = np.empty(tile.count)
        self.kernels.fold(
            inputs, values.view(np.uint8), "F64", base=base, weights=Weights(weights.values, True)
        )
        parents = ", ".join(shown(r.info.source) for r in tile.write.reads())
        bad = np.flatnonzero(~(np.abs(values) < _TOO_LARGE.get(tile.write.dtype, math.inf)))
        if not bad.size:
            return (
                f"{shown(tile.write.name)}: a step of the float32 arithmetic left its range, made "
                f"from {parents}, although the result would not; "
                "write dtype: float64 and the out_dtype you want"
            )
        at = int(bad[0])
        return (
            f"{shown(tile.write.name)}: element {tile.start + at} of the result is {values[at]:g}, "
            f"made from {parents}; every merged value must be a finite "
            f"{DTYPES[tile.write.dtype].torch_name}. Look for NaN or infinity in these models, "
            "smaller weights, or an out_dtype with a wider range"
        )


def _copy_equal(tile: Tile, reads: tuple[Read, ...], inputs: Inputs, out: Bytes) -> None:
    out[:] = inputs.array(0)
    for i, read in enumerate(reads[1:], start=1):
        if not np.array_equal(out, inputs.array(i)):
            raise MisfitError(
                f"{shown(tile.write.name)} has dtype {tile.write.dtype}, which is copied and "
                f"not merged, but differs between {reads[0].info.source} and "
                f"{read.info.source}; merge only models that agree in it"
            )
