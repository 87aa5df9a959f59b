"""The course of a tensor whose changes are summed exactly, element by element, in any order."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch

from mdm_kit.errors import MisfitError
from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.covariance import grids_of
from mdm_kit.maths.grid import I64s
from mdm_kit.maths.orthogonal import fsum
from mdm_kit.methods.rules import Covarying
from mdm_kit.planner.nodes import Read, Write, inputs_of
from mdm_kit.planner.sums import CHANGES
from mdm_kit.run.change_course import Floats, add_to_base
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.lines import Numbers
from mdm_kit.run.not_finite import refuse_not_finite
from mdm_kit.run.profile import Profile
from mdm_kit.run.summed_course import SummedCourse
from mdm_kit.run.sums import Arrays
from mdm_kit.words import shown


class GridCourse(SummedCourse):
    """One reading: the base's largest magnitude in a block is all that its sums depend on."""

    def __init__(self, write: Write, rule: Covarying, arrays: Arrays) -> None:
        """Begin with sums of zeros, or those the node starts from."""
        super().__init__(write, [], rule.factor * rule.other)
        self.arrays = arrays
        self.rule = rule
        self.wide = self.apply.compute == "float64"
        self._k = len(self.apply.inputs)
        self._energies = np.zeros((-(-write.n_elements // BLOCK), self._k))
        self._left = write.n_elements
        self._lock = threading.Lock()
        self._profile = Profile()  # `fill` as a whole is timed already
        if not self._left:
            self._settle_facts()

    @property
    def fill_reads(self) -> tuple[Read, ...]:
        """All inputs."""
        return inputs_of(self.write)[0]

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        total: Floats = np.empty(inputs.count, np.float64 if wide else np.float32)
        for first in range(0, inputs.count, BLOCK):
            end = min(first + BLOCK, inputs.count)
            total[first:end] = self._summed(inputs, start, first, end - first)
        with self._lock:
            self._left -= inputs.count
            if not self._left:
                self._settle_facts()
        return add_to_base(inputs, total, self.factor, out, dtype, wide=wide)

    def _summed(self, inputs: Inputs, start: int, first: int, count: int) -> Floats:
        """Return the sum of a block's changes, (count,) float64; keep it if the tensor does."""
        begun, at = self.apply.start, start + first
        base = self._numbers(inputs, (0,), start).flat(at, count)
        largest = float(base.abs().max())
        if not math.isfinite(largest):
            refuse_not_finite(self.write, inputs, start)
        grid, _ = grids_of(largest)
        sums = self._part(at, count)
        sums[...] = 0
        if begun is not None:
            sums[...] = inputs.array(1 + self._k).view(np.int64)[first : first + count]
        weights = begun.weights if begun else self.rule.weights
        sign = -1 if begun and begun.takes_out else 1
        for i in range(self._k):
            change = self._numbers(inputs, (1 + i, 0), start).flat(at, count)
            energy = float(change.double().square().sum())
            if not math.isfinite(energy):
                refuse_not_finite(self.write, inputs, start)
            self._energies[at // BLOCK, i] = energy
            try:
                grid.add(change, weights[i], sums, sign=sign)
            except MisfitError as fault:
                who = shown(inputs.sources[1 + i])
                raise MisfitError(f"{shown(self.write.name)}, {who}: {fault}") from None
        found = torch.empty(count, dtype=torch.float64)
        grid.read(sums, found)
        return found.numpy()

    def _part(self, at: int, count: int) -> I64s:
        """Return where a block's sums lie; memory of its own where none are kept."""
        if CHANGES in self.arrays:
            return self.arrays[CHANGES][at : at + count]  # type: ignore[return-value]
        return np.empty(count, np.int64)

    def _numbers(self, inputs: Inputs, chosen: tuple[int, ...], start: int) -> Numbers:
        """Return an input's numbers, or those of one minus another's."""
        addresses = [inputs.addresses[i] for i in chosen]
        dtypes = [inputs.dtypes[i] for i in chosen]
        weights = (1.0, -1.0)[: len(chosen)]
        return Numbers(addresses, dtypes, weights, start, self._profile, wide=self.wide)

    def _settle_facts(self) -> None:
        leaving = self.apply.start is not None and self.apply.start.takes_out
        energies = [fsum(column) for column in self._energies.T.tolist()]
        self.facts = SummedTensor([] if leaving else energies, counts=self.apply.counts)
