"""The course of a tensor that is its base plus a factor times one merged change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.fold import fold
from mdm_kit.planner.nodes import Apply, Fold, Read, Write
from mdm_kit.run.course import Course, Stage
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs

Floats = NDArray[np.floating]


class ChangeCourse(Course):
    """Writes a tensor from its merged change, which lies in `total` when the first tile is written.

    `factor` is what the change is multiplied by.
    """

    def __init__(self, write: Write, stages: list[Stage], factor: float) -> None:
        """Begin without a change."""
        super().__init__(write, stages)
        root = write.root
        assert isinstance(root, Fold)  # noqa: S101 -- what is merged are changes
        self.apply: Apply = root.delta
        self.base: Read = root.base
        self.total: Floats | None = None
        self.factor = factor

    @property
    def fill_reads(self) -> Sequence[Read]:
        """The base: the models are in the change."""
        return (self.base,)

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        assert self.total is not None  # noqa: S101 -- it is merged before it is written
        part = self.total[start : start + inputs.count]
        return add_to_base(inputs, part, self.factor, out, dtype, wide=wide)


def add_to_base(
    inputs: Inputs, total: Floats, factor: float, out: Bytes, dtype: str, *, wide: bool
) -> bool:
    """Write the first input plus `factor` times `total`; return whether every result is finite."""
    stored = "F64" if total.dtype == np.float64 else "F32"
    return fold(
        [inputs.addresses[0], total.ctypes.data],
        [inputs.dtypes[0], stored],
        (1.0, factor),
        base=False,
        wide=wide,
        n=inputs.count,
        out=out.ctypes.data,
        out_dtype=dtype,
    )
