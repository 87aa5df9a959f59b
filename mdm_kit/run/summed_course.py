"""The course of a tensor that is merged as a sum over models, of which facts are noted."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.ledger.sums import mean_norm_scale
from mdm_kit.planner.nodes import Apply, Write
from mdm_kit.run.change_course import ChangeCourse
from mdm_kit.run.course import Stage
from mdm_kit.run.sums import Arrays


class SummedCourse(ChangeCourse):
    """Writes a tensor from its sum, which lies in `total` when the first tile is written.

    `facts` says how it was summed once it is, of the models that were taken in now. A tensor whose
    scale is that of the whole model gets its `factor` later. `arrays` is what is there of the sums.
    `noise_energy` is about the squared norm of what a sum read back from weights is wrong by.
    """

    def __init__(self, write: Write, stages: list[Stage], factor: float) -> None:
        """Begin without sums."""
        super().__init__(write, stages, factor)
        self.arrays: Arrays = {}
        self.facts: SummedTensor | None = None
        self.noise_energy = 0.0
        self._noting = threading.Lock()

    def _add_noise(self, norm: float) -> None:
        """Count the norm of what a part of a sum that was read back from weights is wrong by."""
        with self._noting:
            self.noise_energy += norm * norm


def own_scale(apply: Apply, energies: Sequence[float], totals: Sequence[float]) -> float:
    """Return what a tensor's sum is multiplied by where its scale is its own mean norm.

    `energies` and `totals` are those of the models taken in now.
    """
    start = apply.start
    earlier = start.energies if start else ()
    total = totals[-1] if totals else start.total if start else 0.0
    return mean_norm_scale([*earlier, *energies], total)
