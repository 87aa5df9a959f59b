"""The course of a tensor that is merged as a sum over models: base + a factor times a sum."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.ledger.sums import mean_norm_scale
from mdm_kit.maths.fold import fold
from mdm_kit.planner.nodes import Apply, Fold, Read, Write
from mdm_kit.run.course import Course, Stage
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.sums import Arrays

Floats = NDArray[np.floating]


class SummedCourse(Course):
    """Writes a tensor from its sum, which lies in `total` when the first tile is written.

    `facts` says how it was summed once it is, of the models that were taken in now. `factor` is
    what the sum is multiplied by; a tensor whose scale is that of the whole model gets it later.
    `noise_energy` is about the squared norm of what a sum read back from weights is wrong by.
    """

    def __init__(self, write: Write, arrays: Arrays, stages: list[Stage], factor: float) -> None:
        """Begin with what of the sums is there."""
        super().__init__(write, stages)
        root = write.root
        assert isinstance(root, Fold)  # noqa: S101 -- sums are sums of changes
        self.apply: Apply = root.delta
        self.base: Read = root.base
        self.arrays = arrays
        self.total: Floats | None = None
        self.factor = factor
        self.facts: SummedTensor | None = None
        self.noise_energy = 0.0
        self._noting = threading.Lock()

    def _add_noise(self, norm: float) -> None:
        """Count the norm of what a part of a sum that was read back from weights is wrong by."""
        with self._noting:
            self.noise_energy += norm * norm

    @property
    def fill_reads(self) -> Sequence[Read]:
        """The base: the models are in the sum."""
        return (self.base,)

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        assert self.total is not None  # noqa: S101 -- it is summed before it is written
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


def own_scale(apply: Apply, energies: Sequence[float], totals: Sequence[float]) -> float:
    """Return what a tensor's sum is multiplied by where its scale is its own mean norm.

    `energies` and `totals` are those of the models taken in now.
    """
    start = apply.start
    earlier = start.energies if start else ()
    total = totals[-1] if totals else start.total if start else 0.0
    return mean_norm_scale([*earlier, *energies], total)
