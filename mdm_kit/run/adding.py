"""The course of a tensor whose changes are summed as they are, model after model."""

from __future__ import annotations

import math
import threading

import numpy as np

from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.maths.added import add_changes
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.gram import gram_blocks
from mdm_kit.maths.orthogonal import fsum
from mdm_kit.maths.rounding import ROUND_OFF
from mdm_kit.methods.rules import Projecting
from mdm_kit.planner.nodes import Read, Write, inputs_of
from mdm_kit.planner.sums import BEFORE, SUM, waits_for_norms
from mdm_kit.run.change_course import Floats, add_to_base
from mdm_kit.run.course import Borrow, Stage
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.not_finite import refuse_not_finite
from mdm_kit.run.summed_course import SummedCourse, own_scale
from mdm_kit.run.sums import Arrays


class AddingCourse(SummedCourse):
    """Sums on the way where the scale is known; where norms decide it, in a reading before."""

    def __init__(self, write: Write, rule: Projecting, arrays: Arrays) -> None:
        """Plan a stage to sum in, if the scale depends on what comes out."""
        self.rule = rule
        self._before_scale = rule.scale is None
        stages: list[Stage] = [_Summing(self, write.n_elements)] if self._before_scale else []
        super().__init__(write, stages, rule.factor * (rule.scale or 0.0))
        self.arrays = arrays
        self.wide = self.apply.compute == "float64"
        n_blocks = -(-write.n_elements // BLOCK)
        shape = (n_blocks, len(self.apply.inputs))
        self._energies, self._totals = np.zeros(shape), np.zeros(shape)
        self._left = write.n_elements
        self._lock = threading.Lock()
        self.total = arrays.get(SUM)  # type: ignore[assignment]
        if not self._left:
            self._settle_facts()

    @property
    def fill_reads(self) -> tuple[Read, ...]:
        """All inputs where they are summed on the way, else the base."""
        if self._before_scale:
            return (self.base,)
        return inputs_of(self.write)[0]

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        if self._before_scale:
            return super().fill(inputs, start, out, dtype, wide=wide)
        total = self.add(inputs, start)
        return add_to_base(inputs, total, self.factor, out, dtype, wide=wide)

    def add(self, inputs: Inputs, start: int) -> Floats:
        """Sum a tile's changes, and return the part of the sum it is."""
        begun, end = self.apply.start, start + inputs.count
        total = self._part(start, inputs.count)
        before = self.arrays[BEFORE][start:end] if BEFORE in self.arrays else None
        first = start // BLOCK
        rows = slice(first, first + -(-inputs.count // BLOCK))
        self._energies[rows] = self._totals[rows] = 0.0
        add_changes(
            inputs.stored(start, wide=self.wide),
            k=len(self.apply.inputs),
            begun=begun is not None,
            scale=begun.scale if begun else None,
            energies=self._energies[rows],
            totals=self._totals[rows],
            total=total.ctypes.data,
            before=0 if before is None else before.ctypes.data,
        )
        if begun is not None and begun.scale is not None:
            size = math.sqrt(fsum(self._base_energies(inputs).tolist()) / 3.0)
            self._add_noise(ROUND_OFF[begun.reads[0].info.dtype] * size / begun.scale)
        if not np.isfinite(self._totals[rows]).all():
            refuse_not_finite(self.write, inputs, start)
        with self._lock:
            self._left -= inputs.count
            if not self._left:
                self._settle_facts()
        return total

    def _base_energies(self, inputs: Inputs) -> Floats:
        """Return the squared norms of the base's blocks in a tile."""
        out = np.zeros((-(-inputs.count // BLOCK), 1))
        gram_blocks(
            inputs.addresses[:1],
            inputs.dtypes[:1],
            base=False,
            known=0,
            n=inputs.count,
            wide=False,
            exact=False,
            out=out.ctypes.data,
        )
        return out[:, 0]

    def _part(self, start: int, count: int) -> Floats:
        """Return where a tile's part of the sum lies; memory of its own where none is kept."""
        if self.total is not None:
            return self.total[start : start + count]
        return np.empty(count, np.float32)

    def _settle_facts(self) -> None:
        energies = [fsum(column) for column in self._energies.T.tolist()]
        totals = [fsum(column) for column in self._totals.T.tolist()]
        self.facts = SummedTensor(
            energies, totals, [1.0 if e else 0.0 for e in energies], counts=self.apply.counts
        )
        if self._before_scale and not waits_for_norms(self.write):
            self.factor = self.rule.factor * own_scale(self.apply, energies, totals)


class _Summing(Stage):
    """A reading of the tensor in which its sum is made."""

    def __init__(self, course: AddingCourse, n: int) -> None:
        super().__init__(n)
        self._course = course

    def read(self, inputs: Inputs, start: int) -> None:
        self._course.add(inputs, start)

    def settle(self, borrow: Borrow) -> None:
        """Nothing: the last tile has drawn the conclusions."""
