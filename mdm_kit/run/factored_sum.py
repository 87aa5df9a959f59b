"""The course of a tensor that only adapters change, merged as a sum over models on their factors.

Nothing of the tensor's own size is made but the tiles that are written.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mdm_kit.errors import NotFiniteError
from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.maths.factored_maps import MapPlace
from mdm_kit.maths.low_rank import Factors, add_low_rank, side_by_side, weighted_sum
from mdm_kit.maths.low_rank_covariance import merged_low_rank
from mdm_kit.maths.matrix import Matrix
from mdm_kit.maths.orthogonal import fsum
from mdm_kit.methods.rules import Covarying, Projecting, SumRule
from mdm_kit.planner.nodes import Read, Write
from mdm_kit.planner.sums import waits_for_norms
from mdm_kit.run.course import Borrow
from mdm_kit.run.executor import Bytes
from mdm_kit.run.factored_fold import add_factors
from mdm_kit.run.factors import factors_of
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.map_course import SummedMapCourse
from mdm_kit.run.summed_course import own_scale
from mdm_kit.words import shown


@dataclass(frozen=True, slots=True)
class _Step:
    """What a change met: the protected block's rank, squared norms, and how safe the rank is."""

    rank: int
    energy: float
    kept: float
    total: float
    margin: float


class FactoredSum(SummedMapCourse):
    """Merges each map on factors; a tensor without maps is one whose changes are added up."""

    def __init__(self, write: Write, rule: SumRule) -> None:
        """Begin with nothing merged."""
        scale = rule.scale or 0.0 if isinstance(rule, Projecting) else 1.0
        super().__init__(write, rule, rule.factor * scale)
        self.rule = rule
        self._touched = len(write.shape) == 2 and bool(self.apply.reads)
        whole = (Matrix.plain(*write.shape),) if self._touched else (Matrix.plain(1, 1),)
        self._has_maps = bool(rule.matrices) and self._touched
        self.matrices = rule.matrices if self._has_maps else whole
        self._left = len(self.matrices)
        self._changes: list[Factors] | None = None
        self._loading = threading.Lock()
        self._parts: list[Factors | None] = [None] * len(self.matrices)
        self._steps: list[list[_Step]] = [[] for _ in self.matrices]
        self._merged: Factors | None = None

    @property
    def starts(self) -> tuple[Read, ...]:
        """None: what an earlier merge kept is no product."""
        return ()

    def announce(self, index: int, borrow: Borrow) -> int:
        """Tell far sources that the factors will be read, and return their bytes."""
        reads = self.apply.reads if not index else ()
        return sum(borrow.unread((r,), 0, r.info.n_elements).announce() for r in reads)

    def room(self, index: int) -> int:
        """Return about the memory that merging a map takes."""
        matrix = self.matrices[index]
        rank = sum(min(r.info.shape) for r in self.apply.reads) // 2
        return 8 * 8 * rank * (matrix.n_out + matrix.n_in + rank)

    def merge_models(self, index: int, borrow: Borrow) -> None:
        """Take every model's change of a map in."""
        changes = self._loaded(borrow)
        if not self._touched:
            self._steps[index] = [_Step(0, 0.0, 0.0, 0.0, math.inf) for _ in changes]
            return
        place = MapPlace.of(self.matrices[index], self.write.shape)
        own = [place.within(change) for change in changes]
        merged = self._merge(index, own)
        if not all(math.isfinite(float(t.sum())) for t in (merged.left, merged.right)):
            models = ", ".join(map(shown, self.apply.models))
            raise NotFiniteError(
                f"{shown(self.write.name)}: the changes of {models} are not finite; look for NaN "
                "or infinity in these adapters"
            )
        self._parts[index] = place.spread(merged, self.write.shape)

    def _loaded(self, borrow: Borrow) -> list[Factors]:
        with self._loading:
            if self._changes is None:
                self._changes = factors_of(self.apply.inputs, self.write.shape, borrow)
            return self._changes

    def _merge(self, index: int, changes: Sequence[Factors]) -> Factors:
        rule = self.rule
        if isinstance(rule, Covarying):
            energies = (d.squared_norm() for d in changes)
            self._steps[index] = [_Step(0, e, e, 0.0, math.inf) for e in energies]
            if self._has_maps:
                return merged_low_rank(changes, rule.weights, rule.ridge)
            return weighted_sum(changes, [rule.other * w for w in rule.weights])
        total = side_by_side([], like=changes[0])
        for change in changes:
            total = self._project(index, total, change)
        return total

    def _project(self, index: int, total: Factors, change: Factors) -> Factors:
        """Return a map's sum with one more change, and note what became of that."""
        rule, energy = self.rule, change.squared_norm()
        assert isinstance(rule, Projecting)  # noqa: S101 -- the other rule is no scan
        if not self._has_maps or total.squared_norm() == 0.0:
            new = side_by_side([total, change]) if total.squared_norm() else change
            step = _Step(0, energy, energy, new.squared_norm(), math.inf)
        else:
            found = add_low_rank(
                total, change, alpha=rule.alpha, variant=rule.variant, tail_tol=rule.tail_tol
            )
            new = found.total
            kept = found.kept.squared_norm()
            step = _Step(found.cut.rank, energy, kept, new.squared_norm(), found.cut.margin)
        self._steps[index].append(step)
        return new

    def settled(self) -> SummedTensor:
        """Return how the tensor was summed; from then on tiles can be written."""
        parts = [part for part in self._parts if part is not None]
        if parts:
            self._merged = side_by_side(parts).to(torch.float64 if self.wide else torch.float32)
        self._changes, self._parts = None, []
        by_model = list(zip(*self._steps, strict=True))
        energies = [fsum([s.energy for s in steps]) for steps in by_model]
        if isinstance(self.rule, Covarying):
            return SummedTensor(energies, counts=self.apply.counts)
        totals = [fsum([s.total for s in steps]) for steps in by_model]
        kept = [fsum([s.kept for s in steps]) for steps in by_model]
        if self.rule.scale is None and not waits_for_norms(self.write):
            self.factor = self.rule.factor * own_scale(self.apply, energies, totals)
        ranks = [[s.rank for s in steps] for steps in self._steps]
        margins = [s.margin for steps in by_model for s in steps if math.isfinite(s.margin)]
        return SummedTensor(
            energies,
            totals,
            [k / e if e else 0.0 for k, e in zip(kept, energies, strict=True)],
            (ranks if self._has_maps else [[0] * len(by_model)] * len(self.rule.matrices)),
            min(margins, default=None),
            self.apply.counts,
        )

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        merged = self._merged
        if merged is None:
            none = torch.zeros((1, 0))
            merged = Factors(none, none.mT)
        return add_factors(inputs, merged, start, out, dtype, wide=wide, factor=self.factor)
