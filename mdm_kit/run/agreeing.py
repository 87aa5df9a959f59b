"""The course of a tensor whose changes are added up where enough models stand behind the sum."""

from __future__ import annotations

from mdm_kit.maths.agreed import add_agreed
from mdm_kit.methods.rules import Agreeing
from mdm_kit.planner.nodes import Write
from mdm_kit.run.course import Course
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs


class AgreeingCourse(Course):
    """One reading: each element depends on nothing but itself."""

    def __init__(self, write: Write, rule: Agreeing) -> None:
        """Plan no stage."""
        self.rule = rule
        super().__init__(write, [])

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        return add_agreed(
            inputs.stored(start, wide=wide),
            weights=self.rule.weights,
            tall=self.rule.tall,
            agree=self.rule.agree,
            scale=self.rule.scale,
            out=out.ctypes.data,
            out_dtype=dtype,
        )
