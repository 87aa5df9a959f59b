"""The course of a tensor whose linear maps are projected away from what is merged already."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdm_kit.errors import NotFiniteError
from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.maths.orthogonal import fsum
from mdm_kit.maths.projection import Projection, Step
from mdm_kit.maths.rounding import ROUND_OFF, noise_edge
from mdm_kit.maths.spectral_costs import LINES
from mdm_kit.maths.strips import MatrixStrip, Strip
from mdm_kit.methods.rules import Projecting
from mdm_kit.planner.nodes import Read, Write
from mdm_kit.planner.sums import BEFORE, SUM, waits_for_norms
from mdm_kit.run.course import Borrow
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.lines import MapLines, root_mean_square, view_of
from mdm_kit.run.map_course import SummedMapCourse
from mdm_kit.run.summed_course import own_scale
from mdm_kit.run.sums import Arrays


class ProjectingCourse(SummedMapCourse):
    """S_t = S_{t-1} + P(d_t; S_{t-1}) for each map; S lies in the tensor's `sum`."""

    def __init__(self, write: Write, rule: Projecting, arrays: Arrays) -> None:
        """Begin with a sum of zeros, or the one the node starts from."""
        super().__init__(write, rule, rule.factor * (rule.scale or 0.0))
        self.arrays = arrays
        self.rule = rule
        self._sum = torch.from_numpy(arrays[SUM])
        self._before = torch.from_numpy(arrays[BEFORE]) if BEFORE in arrays else None
        self._steps: list[list[Step]] = [[] for _ in rule.matrices]

    @property
    def starts(self) -> tuple[Read, ...]:
        """The sum of an earlier merge, or its weights."""
        return self.apply.start.reads if self.apply.start else ()

    def merge_models(self, index: int, borrow: Borrow) -> None:
        """Take every model into the sum of a map, one after the other."""
        matrix = self.matrices[index]
        first, last = matrix.span
        view = view_of(self._sum, matrix)
        # A map whose rows have several axes is summed in a copy, and put back.
        held = view if view.dim() == 2 else view.reshape(matrix.n_out, matrix.n_in)
        with borrow.of((self.base,), first, last - first) as base:
            start, size = self.apply.start, 0.0
            if self.rule.tail_tol is None or (start and start.scale is not None):
                size = root_mean_square(self.lines_of(index, borrow, base, wide=False), LINES)
            self._begin(index, held, base, size, borrow)
            projection = Projection(
                MatrixStrip(held),
                alpha=self.rule.alpha,
                variant=self.rule.variant,
                tail_tol=self.rule.tail_tol,
                clock=borrow.profile.during,
            )
            for i, read in enumerate(self.models):
                if self._before is not None and i == len(self.models) - 1:
                    view_of(self._before, matrix).copy_(held.reshape(view.shape))
                edge = noise_edge(read.info.dtype, size, matrix.n_out, matrix.n_in)
                try:
                    with self.change(read, base, borrow, index) as change:
                        step = projection.add(_strip(change, plain=matrix.is_plain), edge)
                except NotFiniteError:
                    self.refuse(read, borrow, index)
                self._steps[index].append(step)
        if held is not view:
            view.copy_(held.reshape(view.shape))

    def _begin(self, index: int, held: Tensor, base: Inputs, size: float, borrow: Borrow) -> None:
        """Fill a map's sum with what an earlier merge has of it; `size` is the base's numbers'."""
        start = self.apply.start
        held.zero_()
        if start is None:
            return
        first, last = self.matrices[index].span
        with borrow.of(start.reads, first, last - first) as kept:
            if start.scale is None:
                held.copy_(self.lines_of(index, borrow, kept, wide=False).whole())
                return
            apart = self.lines_of(index, borrow, kept, base, wide=True).whole()
        held.copy_(apart / start.scale)
        noise = ROUND_OFF[start.reads[0].info.dtype] / start.scale
        self._add_noise(noise * size * math.sqrt(held.numel() / 3.0))

    def settled(self) -> SummedTensor:
        """Return how the tensor was summed, and find its own scale where it has one."""
        by_model = list(zip(*self._steps, strict=True))
        energies = [fsum([s.change_energy for s in steps]) for steps in by_model]
        totals = [fsum([s.total_energy for s in steps]) for steps in by_model]
        kept = [fsum([s.kept_energy for s in steps]) for steps in by_model]
        margins = [s.margin for steps in by_model for s in steps if math.isfinite(s.margin)]
        self.total = self._sum.numpy()
        if self.rule.scale is None and not waits_for_norms(self.write):
            self.factor = self.rule.factor * own_scale(self.apply, energies, totals)
        return SummedTensor(
            energies,
            totals,
            [k / e if e else 0.0 for k, e in zip(kept, energies, strict=True)],
            [[s.rank for s in steps] for steps in self._steps],
            min(margins, default=None),
            self.apply.counts,
        )


def _strip(change: MapLines, *, plain: bool) -> Strip:
    """Return a change as its longer side's lines; rows that follow each other need no copy."""
    if plain and change.rows >= change.columns:
        return _Rows(change)
    return MatrixStrip(change.whole())


class _Rows:
    """The rows of a change that has at least as many as columns."""

    def __init__(self, change: MapLines) -> None:
        self.long, self.short = change.rows, change.columns
        self.lines = change.lines
