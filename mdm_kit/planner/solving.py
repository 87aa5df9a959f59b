"""From inner products to weights: the one place where a group of tensors is solved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.orthogonal import Basis, Gram, condition, nearly_dependent, summed
from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.words import shown

CANCELLATION = 16.0
"""Where Σ|w_i|‖d_i‖ exceeds the result's norm by this factor, float32 loses four bits of it."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Weights outside of this would leave float32's range in a product."""


@dataclass(frozen=True, slots=True)
class Group:
    """A solved group: its tensors in plan order, the basis, and what its deltas are like.

    `grams` are the tensors' Gram matrices that were used, `weights` what each tensor's deltas are
    multiplied by. The largest cosine of two deltas, and the condition κ of making them orthogonal.
    """

    basis: Basis
    grams: Mapping[str, Gram]
    weights: Mapping[str, tuple[float, ...]]
    largest_cosine: float
    condition: float

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors, in plan order."""
        return tuple(self.weights)


def solve_group(
    name: str,
    method: Method,
    params: Mapping[str, MethodParams],
    plain: Mapping[str, Gram],
    exact: Mapping[str, Gram],
) -> Group:
    """Solve a group from its tensors' parameters and Gram matrices, in plan order.

    A nearly dependent group is solved from compensated sums, `exact`. Raises `NotFiniteError` where
    sums leave float64's range.
    """
    grams = {t: plain[t] for t in params}
    if is_blurred(list(grams.values())):
        grams = {t: exact[t] for t in params}
    joined = summed(list(grams.values()))
    if not all(map(math.isfinite, joined.triangle)):
        raise NotFiniteError(
            f"{shown(name)}: the inner products of this group's changes leave float64's range; "
            "take a narrower scope, or look for huge numbers in the models"
        )
    solve, coefficients = method.solve, method.coefficients
    assert solve is not None  # noqa: S101 -- only methods with groups come here
    assert coefficients is not None  # noqa: S101
    basis = solve(joined, next(iter(params.values())))
    weights = {t: tuple(coefficients(p, basis)) for t, p in params.items()}
    return Group(basis, grams, weights, joined.largest_cosine(), condition(joined))


def is_blurred(grams: Sequence[Gram]) -> bool:
    """Whether plain sums are too coarse for the group these Gram matrices belong to."""
    return nearly_dependent(summed(grams))


def too_coarse(weights: Sequence[float], gram: Gram | None) -> bool:
    """Whether float32 loses too much of a sum with these weights of deltas with this Gram matrix.

    Without one, weights of both signs are taken to be there to cancel: what float32 loses may then
    be all that is left.
    """
    if any(w and not SMALLEST <= abs(w) <= LARGEST for w in weights):
        return True
    if gram is None:
        return min(weights, default=0.0) < 0 < max(weights, default=0.0)
    apart = math.fsum(abs(w) * math.sqrt(gram.at(i, i)) for i, w in enumerate(weights))
    return apart > CANCELLATION * math.sqrt(gram.energy(weights))
