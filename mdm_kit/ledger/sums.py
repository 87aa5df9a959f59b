"""What the sums of a merge say of its models: norms, and the scale that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.maths.orthogonal import fsum

UNSURE = 10
"""A margin below which another rounding may well count other singular values."""


def mean_norm_scale(energies: Sequence[float], total: float) -> float:
    """Return the mean of norms over the norm of a sum, from their squares; 0 where the sum is 0.

    OPCM's n̄/|S_T| (arXiv:2501.09522, Theorem 5.2).
    """
    if total <= 0.0:
        return 0.0
    norms = [math.sqrt(e) for e in energies]
    return fsum(norms) / len(norms) / math.sqrt(total)


def energies_of(tensors: Iterable[SummedTensor]) -> list[float]:
    """Return |d_t|² of each model, over all tensors that count."""
    return _added(t.energies for t in tensors if t.counts)


def totals_of(tensors: Iterable[SummedTensor]) -> list[float]:
    """Return |S_t|² after each model, over all tensors that count; none where nothing grows so."""
    return _added(t.totals for t in tensors if t.counts)


def _added(rows: Iterable[Sequence[float]]) -> list[float]:
    return [fsum(column) for column in zip(*rows, strict=True)]


def lambdas_of(tensors: Mapping[str, SummedTensor]) -> list[float]:
    """Return λ_t = |S_t| over the mean norm of the first t changes, for each t."""
    energies, totals = energies_of(tensors.values()), totals_of(tensors.values())
    scales = [mean_norm_scale(energies[: t + 1], total) for t, total in enumerate(totals)]
    return [1.0 / scale if scale else 0.0 for scale in scales]


def kept_shares(tensors: Iterable[SummedTensor]) -> list[float]:
    """Return which share of each model's |d_t|² was added to the sum, over tensors that count.

    None where nothing grows so; 0 for a model that changed nothing.
    """
    facts = [t for t in tensors if t.counts and t.kept]
    whole = _added(t.energies for t in facts)
    added = _added([k * e for k, e in zip(t.kept, t.energies, strict=True)] for t in facts)
    return [a / w if w else 0.0 for a, w in zip(added, whole, strict=True)]


def smallest_margin(tensors: Mapping[str, SummedTensor]) -> tuple[str, float] | None:
    """Return the tensor whose singular values come nearest to the tolerance, and its margin."""
    found = [(t.margin, name) for name, t in tensors.items() if t.margin is not None]
    margin, name = min(found, default=(None, ""))
    return None if margin is None else (name, margin)


def joined(
    earlier: SummedTensor | None, n: int, energies: Sequence[float], now: SummedTensor
) -> SummedTensor:
    """Return how a tensor was summed over the first n models of a merge and those taken in now.

    `energies` are those of the n models.
    """
    margins = [t.margin for t in (earlier, now) if t is not None and t.margin is not None]
    old = earlier or SummedTensor([])
    if now.ranks and old.ranks:
        ranks = [[*a[:n], *b] for a, b in zip(old.ranks, now.ranks, strict=True)]
    else:
        ranks = now.ranks or [row[:n] for row in old.ranks]
    return SummedTensor(
        [*energies, *now.energies],
        [*old.totals[:n], *now.totals],
        [*old.kept[:n], *now.kept],
        ranks,
        min(margins, default=None),
        now.counts,
    )
