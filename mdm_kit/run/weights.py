"""What each model's tensor is multiplied by, and in which precision the sum is folded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.orthogonal import Basis, Gram, condition, nearly_dependent, summed
from mdm_kit.methods.registry import methods
from mdm_kit.planner.nodes import Apply, Write
from mdm_kit.words import shown

CANCELLATION = 16.0
"""Where Σ|w_i|‖d_i‖ exceeds the result's norm by this factor, float32 loses four bits of it."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Weights outside of this would leave float32's range in a product."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One float64 per model; `wide` asks for a fold in float64."""

    values: tuple[float, ...]
    wide: bool


def known_weights(apply: Apply) -> Weights:
    """Return the weights of a method that needs nothing but its parameters for them."""
    values = tuple(methods()[apply.method].coefficients(apply.params))
    # Weights of both signs are there to cancel, and what float32 loses may be all that is left.
    cancels = min(values) < 0 < max(values)
    return Weights(values, cancels or _unfit(values) or apply.compute == "float64")


def _unfit(values: Sequence[float]) -> bool:
    return any(w and not SMALLEST <= abs(w) <= LARGEST for w in values)


def solved_weights(apply: Apply, gram: Gram, basis: Basis) -> Weights:
    """Return a tensor's weights from its own Gram matrix and the basis of its group."""
    values = tuple(methods()[apply.method].coefficients(apply.params, basis))
    apart = math.fsum(abs(w) * math.sqrt(gram.at(i, i)) for i, w in enumerate(values))
    cancels = apart > CANCELLATION * math.sqrt(gram.energy(values))
    return Weights(values, cancels or _unfit(values) or apply.compute == "float64")


def solve(apply: Apply, grams: Sequence[Gram]) -> Basis:
    """Return the basis of a group from the Gram matrices of its tensors, in plan order."""
    solver = methods()[apply.method].solve
    assert solver is not None  # noqa: S101 -- only methods with groups come here
    joined = summed(grams)
    if not all(map(math.isfinite, joined.triangle)):
        raise NotFiniteError(
            f"{shown(apply.group or apply.method)}: the inner products of this group's changes "
            "leave float64's range; take a narrower scope, or look for huge numbers in the models"
        )
    return solver(joined, apply.params)


@dataclass(frozen=True, slots=True)
class Group:
    """A solved group: its tensors in plan order, the basis, and what its deltas are like.

    The largest cosine of two deltas, and the condition κ of making them orthogonal.
    """

    tensors: tuple[str, ...]
    basis: Basis
    largest_cosine: float
    condition: float


def solve_groups(
    writes: Sequence[Write], grams: Mapping[str, Gram]
) -> tuple[dict[str, Group], dict[str, Weights]]:
    """Solve every group of `writes` from the tensors' Gram matrices.

    Returns the groups by name and each measured tensor's weights.
    """
    members: dict[str, list[Write]] = {}
    for write in writes:
        apply = write.apply()
        if apply is not None and apply.group is not None:
            members.setdefault(apply.group, []).append(write)
    groups, weights = {}, {}
    for name, tensors in members.items():
        own = [grams[w.name] for w in tensors]
        applies = [a for w in tensors if (a := w.apply()) is not None]
        basis = solve(applies[0], own)
        gram = summed(own)
        names = tuple(w.name for w in tensors)
        groups[name] = Group(names, basis, gram.largest_cosine(), condition(gram))
        for write, apply, gram in zip(tensors, applies, own, strict=True):
            weights[write.name] = solved_weights(apply, gram, basis)
    return groups, weights


def blurred(writes: Sequence[Write], grams: Mapping[str, Gram]) -> list[Write]:
    """Return the tensors of groups whose sums must be compensated, in plan order."""
    members: dict[str, list[Gram]] = {}
    for write in writes:
        apply = write.apply()
        if apply is not None and apply.group is not None:
            members.setdefault(apply.group, []).append(grams[write.name])
    blurry = {name for name, own in members.items() if nearly_dependent(summed(own))}
    return [w for w in writes if (a := w.apply()) is not None and a.group in blurry]
