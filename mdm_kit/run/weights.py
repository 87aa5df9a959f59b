"""What each model's tensor is multiplied by, and in which precision the sum is folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdm_kit.maths.orthogonal import Gram
from mdm_kit.methods.registry import methods
from mdm_kit.planner.nodes import Apply, Write
from mdm_kit.planner.solving import Group, is_blurred, solve_group, too_coarse


@dataclass(frozen=True, slots=True)
class Weights:
    """One float64 per model; `wide` asks for a fold in float64."""

    values: tuple[float, ...]
    wide: bool


def known_weights(apply: Apply) -> Weights:
    """Return the weights of a node that needs nothing but its parameters for them."""
    if apply.weights is not None:
        return Weights(apply.weights, apply.compute == "float64")
    method = methods()[apply.method]
    if method.others is not None:
        values = tuple(method.others(apply.params, len(apply.inputs)))
    else:
        assert method.coefficients is not None  # noqa: S101 -- a rule has a course instead
        values = tuple(method.coefficients(apply.params))
    return Weights(values, apply.compute == "float64" or too_coarse(values, None))


def members_of(writes: Sequence[Write]) -> dict[str, dict[str, Apply]]:
    """Return the tensors of each group among `writes` and their nodes, in plan order."""
    members: dict[str, dict[str, Apply]] = {}
    for write in writes:
        apply = write.apply()
        if apply is not None and apply.group is not None:
            members.setdefault(apply.group, {})[write.name] = apply
    return members


def solve_groups(
    writes: Sequence[Write], grams: Mapping[str, Gram], exact: Mapping[str, Gram]
) -> tuple[dict[str, Group], dict[str, Weights]]:
    """Solve every group of `writes` from the tensors' Gram matrices, plain and compensated.

    Returns the groups by name and each measured tensor's weights.
    """
    groups, weights = {}, {}
    for name, applies in members_of(writes).items():
        method = methods()[next(iter(applies.values())).method]
        params = {t: a.params for t, a in applies.items()}
        group = groups[name] = solve_group(name, method, params, grams, exact)
        for tensor, values in group.weights.items():
            wide = applies[tensor].compute == "float64"
            wide = wide or too_coarse(values, group.grams[tensor])
            weights[tensor] = Weights(values, wide)
    return groups, weights


def blurred(writes: Sequence[Write], grams: Mapping[str, Gram]) -> list[Write]:
    """Return the tensors of groups whose sums must be compensated, in plan order."""
    blurry = {
        name
        for name, applies in members_of(writes).items()
        if is_blurred([grams[tensor] for tensor in applies])
    }
    return [w for w in writes if (a := w.apply()) is not None and a.group in blurry]
