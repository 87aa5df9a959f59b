"""Iso-C: the sum of all changes with a flat spectrum.

With D = Σ w_i d_i = U S Vᵀ the merged change is M = mean(S) U Vᵀ = D V (mean(S) / S) Vᵀ, so left
vectors are never formed (Marczak et al. 2025, No Task Left Behind, arXiv:2502.04959, §4.1).
Directions in which D is zero, or rounding, have no U and V that are not arbitrary: they are left
out of the product and of the mean, which keeps the sum of the singular values what it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mdm_kit.maths.changes import Changes, Held, seen
from mdm_kit.maths.singular import cut_at, singular_of


def isotropic(changes: Changes, weights: Sequence[float], tail_tol: float | None) -> Tensor:
    """Return M (out, in) float64, in one pass; zeros where D is zero.

    Raises `NotFiniteError` where D is not finite.
    """
    total = summed(changes, weights)
    found = singular_of(total, cut_at(tail_tol, weighed(changes, weights)))
    values, vectors = found.values, found.vectors
    if len(values):
        total.times((vectors.mT * (values.mean() / values)) @ vectors)
    else:
        total.values.zero_()
    return total.matrix()


def weighed(changes: Changes, weights: Sequence[float]) -> list[float]:
    """Return the noise edges of the w_i d_i."""
    return [abs(w) * edge for w, edge in zip(weights, changes.edges, strict=True)]


def summed(changes: Changes, weights: Sequence[float]) -> Held:
    """Return Σ w_i d_i."""
    total: Held | None = None
    for change, weight in zip(changes, weights, strict=True):
        total = total or Held(change.rows, change.columns)
        total.add(seen(change, weight))
    assert total is not None  # noqa: S101 -- there is a model
    return total
