"""The course of a tensor whose changes are joined by how many models make them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.counted import add_counted, count_changes
from mdm_kit.methods.rules import Counting
from mdm_kit.planner.nodes import Write
from mdm_kit.run.course import Borrow, Course, Stage
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs


class CountingCourse(Course):
    """Counts shared and own changes where the rule strengthens own ones, then adds."""

    def __init__(self, write: Write, rule: Counting, k: int, *, wide: bool) -> None:
        """Plan a stage to count in, if it matters."""
        self.rule = rule
        self.wide = wide
        self.n = write.n_elements
        self.alone: Sequence[float] = (1.0,) * k
        counts = rule.r != 0.0 and rule.alpha != 0.0
        super().__init__(write, [_Counts(self, k)] if counts else [])

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        return add_counted(
            inputs.stored(start, wide=wide),
            least=self.rule.epsilon,
            alone=self.alone,
            out=out.ctypes.data,
            out_dtype=dtype,
        )


class _Counts(Stage):
    """How many of its changes each model shares, and how many it has alone."""

    def __init__(self, course: CountingCourse, k: int) -> None:
        super().__init__(course.n)
        self._course = course
        self._counts = np.zeros((-(-course.n // BLOCK), k, 2), np.int64)

    def read(self, inputs: Inputs, start: int) -> None:
        first = start // BLOCK
        count_changes(
            inputs.stored(start, wide=self._course.wide),
            least=self._course.rule.epsilon,
            counts=self._counts[first : first + -(-inputs.count // BLOCK)],
        )

    def settle(self, borrow: Borrow) -> None:
        rule = self._course.rule
        shared, own = self._counts.sum(axis=0).T
        ratio = shared / np.maximum(own, rule.epsilon or 1.0)
        self._course.alone = [float(1.0 + rule.r * min(x, rule.alpha)) for x in ratio]
