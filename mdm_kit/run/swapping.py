"""The course of a tensor that is moved towards another model's by steps of limited size."""

from __future__ import annotations

from mdm_kit.maths.swapped import step_towards
from mdm_kit.methods.rules import Swapping
from mdm_kit.planner.nodes import Write
from mdm_kit.run.course import Course
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs


class SwappingCourse(Course):
    """One reading: each element depends on nothing but itself."""

    def __init__(self, write: Write, rule: Swapping) -> None:
        """Plan no stage."""
        self.rule = rule
        super().__init__(write, [])

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        tile = inputs.stored(start, wide=wide)
        return step_towards(tile, step=self.rule.t, out=out.ctypes.data, out_dtype=dtype)
