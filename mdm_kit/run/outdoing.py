"""The course of a tensor each of whose elements changes as in the model that changes it most."""

from __future__ import annotations

from mdm_kit.maths.outdone import add_largest
from mdm_kit.methods.rules import Outdoing
from mdm_kit.planner.nodes import Write
from mdm_kit.run.course import Course
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs


class OutdoingCourse(Course):
    """One reading: each element depends on nothing but itself."""

    def __init__(self, write: Write, rule: Outdoing) -> None:
        """Plan no stage."""
        self.rule = rule
        super().__init__(write, [])

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        tile = inputs.stored(start, wide=wide)
        return add_largest(tile, scale=self.rule.scale, out=out.ctypes.data, out_dtype=dtype)
