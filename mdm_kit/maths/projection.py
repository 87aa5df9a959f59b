"""OPCM's step: a change joins a sum of changes without what the sum holds already.

S + P(d; S), where P takes from d those of its coefficients h_ij = u_iᵀ d v_j in the singular basis
of S that a variant names. Left singular vectors are never formed: as u_i = S v_i / σ_i, what is
taken is S K, and the n × n matrix K follows from SᵀS and Sᵀd alone. One pass over S and d measures
these, another writes S + d - S K.

All of it is float64, rounded to float32 where S is written. A sum with singular values close to one
another, or close to zero, magnifies what a step leaves wrong in every step that follows: after
eight models float32 products were off by up to 2e-2 of the sum where these were by 2e-5, and most
often end on the very bits of dense float64.

Tang et al. 2025, Merging Models on the Fly Without Retraining, arXiv:2501.09522.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.clock import Clock, untimed
from mdm_kit.maths.spectral_costs import LINES
from mdm_kit.maths.spectrum import (
    Spectrum,
    Split,
    add_upper,
    mirrored,
    quadratic_forms,
    spectrum_of,
    split,
    squared_norm,
)
from mdm_kit.maths.strips import Accumulator, Strip, spans

VARIANTS = ("reference", "legacy", "paper")
"""What is taken from d, with k the rank of the head: coefficients with i, j < k, and the diagonal
of the tail (reference); the former alone (legacy); those with i < k or j < k, and the diagonal of
the tail (paper)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a change met: the head's `rank`, how many directions were `live`, and squared norms.

    `change_energy` is ‖d‖², `kept_energy` ‖P(d)‖², `total_energy` that of the new sum. `margin` is
    the smallest live singular value over the tolerance: below ten, another rounding may well give
    another result. It is infinite where there was nothing to be orthogonal to.
    """

    rank: int
    live: int
    change_energy: float
    kept_energy: float
    total_energy: float
    margin: float


class Projection:
    """The sum S of changes in `total`, zeros at first or what was stored of an earlier merge."""

    def __init__(
        self,
        total: Accumulator,
        *,
        alpha: float,
        variant: str,
        tail_tol: float | None,
        clock: Clock = untimed,
    ) -> None:
        """Go on from what `total` holds; see `split` for `alpha` and `tail_tol`."""
        if variant not in VARIANTS:
            raise ValueError(f"expected a variant of {', '.join(VARIANTS)}, found {variant}")
        self._total = total
        self._alpha, self._variant, self._tail_tol = alpha, variant, tail_tol
        self._clock = clock

    def add(self, change: Strip, noise_edge: float) -> Step:
        """Add what is new in `change`, of the total's shape; the first is taken whole.

        `noise_edge` is the largest singular value that rounding of stored weights gives the total.
        Raises `NotFiniteError` for a NaN or an infinity, `MdmError` without convergence; the total
        is as it was then, unless it was zero.
        """
        total = self._total
        if (change.long, change.short) != (total.long, total.short):
            raise ValueError(f"a change of {change.long} x {change.short} does not fit the total")
        if not any(total.lines(*span).any() for span in spans(total.long)):
            return self._begin(change)
        desk = _Desk(total)
        spectrum, cross, change_energy = self._measure(change, desk)
        cut = split(
            spectrum.values, alpha=self._alpha, tail_tol=self._tail_tol, noise_edge=noise_edge
        )
        with self._clock("products"):
            taken = _taken(spectrum, cross, cut, self._variant)
        del spectrum, cross  # the largest there are, and done with
        kept_energy, total_energy = self._update(change, taken, desk)
        return Step(cut.rank, cut.live, change_energy, kept_energy, total_energy, cut.margin)

    def _begin(self, change: Strip) -> Step:
        energy = 0.0
        for start, count in spans(change.long):
            lines = change.lines(start, count)
            energy += squared_norm(lines)
            self._total.put(start, lines)
        _check(energy)
        return Step(0, 0, energy, energy, energy, math.inf)

    def _measure(self, change: Strip, desk: _Desk) -> tuple[Spectrum, Tensor, float]:
        """Return the spectrum of S, Sᵀd, and ‖d‖²."""
        gram, cross, energy = desk.square(), desk.square(), 0.0
        for start, count in spans(change.long):
            total = desk.first(count).copy_(self._total.lines(start, count))
            added = desk.second(count).copy_(change.lines(start, count))
            with self._clock("gram"):
                add_upper(gram, total, total)
            with self._clock("products"):
                cross.addmm_(total.mT, added)
            energy += squared_norm(added)
        _check(energy)
        with self._clock("eigen"):
            return spectrum_of(gram), cross, energy

    def _update(self, change: Strip, taken: _Taken, desk: _Desk) -> tuple[float, float]:
        """Write S + P(d), return ‖P(d)‖² and the new ‖S‖²."""
        kept_energy = total_energy = 0.0
        for start, count in spans(change.long):
            total = desk.first(count).copy_(self._total.lines(start, count))
            kept = desk.second(count).copy_(change.lines(start, count))
            with self._clock("products"):
                if taken.columns is not None:
                    kept.addmm_(kept @ taken.columns.mT, taken.columns, alpha=-1)
                kept.addmm_(total, taken.factors, alpha=-1)
            kept_energy += squared_norm(kept)
            stored = desk.stored(count).copy_(total.add_(kept))
            total_energy += squared_norm(stored)
            self._total.put(start, stored)
        return kept_energy, total_energy


@dataclass(frozen=True, slots=True)
class _Taken:
    """P(d) = d (I - columnsᵀ columns) - S `factors`; `columns` (k, n) are for `paper` alone."""

    factors: Tensor
    columns: Tensor | None


def _taken(spectrum: Spectrum, cross: Tensor, cut: Split, variant: str) -> _Taken:
    """Return what a variant takes from d, given `cross` = Sᵀd."""
    k, live = cut.rank, cut.rank if variant == "legacy" else cut.live
    head, tail = spectrum.vectors[:k], spectrum.vectors[k:live]  # row i is v_i
    squares = spectrum.values[:live, None].square()
    weights = quadratic_forms(tail, cross)[:, None] / squares[k:]
    factors = torch.zeros_like(cross)
    add_upper(factors, weights * tail, tail)
    factors = mirrored(factors)
    rows = head @ cross  # (k, n): row i is σ_i u_iᵀ d
    inner = (rows @ head.mT) @ head
    # For `paper`, what is in the head's columns goes with them.
    rows = (rows - inner if variant == "paper" else inner).div_(squares[:k])
    factors.addmm_(head.mT, rows)
    return _Taken(factors, head if variant == "paper" else None)


class _Desk:
    """Room for the lines at hand, allocated by torch: how they are aligned decides bits."""

    def __init__(self, total: Accumulator) -> None:
        self._short = total.short
        device = total.lines(0, min(1, total.long)).device
        rows = min(LINES, total.long)
        self._blocks = torch.empty((2, rows, total.short), dtype=torch.float64, device=device)

    def square(self) -> Tensor:
        """Return zeros (short, short)."""
        return self._blocks.new_zeros(self._short, self._short)

    def first(self, count: int) -> Tensor:
        """Return a block (count, short) float64."""
        return self._blocks[0, :count]

    def second(self, count: int) -> Tensor:
        """Return another."""
        return self._blocks[1, :count]

    def stored(self, count: int) -> Tensor:
        """Return a block (count, short) float32 where the second was."""
        narrow = self._blocks[1].view(-1).view(torch.float32)
        return narrow[: count * self._short].view(count, self._short)


def _check(energy: float) -> None:
    if not math.isfinite(energy):
        raise NotFiniteError("a change holds a NaN or an infinity")
