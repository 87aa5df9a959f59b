"""What each model of a merge was multiplied by, over all its tensors: for people to read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from mdm_kit.ledger.manifest import Manifest
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import any_compat
from mdm_kit.planner.plan import Plan
from mdm_kit.run.weights import known_weights

Range = tuple[float, float]
"""Smallest and largest."""


def effective_weights(plan: Plan, manifest: Manifest) -> dict[str, Range]:
    """Return the range of each model's weights by name, none for a method that has no weights."""
    rows = [t.weights for t in manifest.tensors.values() if t.weights is not None]
    if rows:
        listed = plan.sources if plan.stages else manifest.sources
        names = [s.name for s in listed if s.role == "model"]
        return _ranges(zip(names, row, strict=True) for row in rows)
    if methods()[plan.method].coefficients is None or any_compat(manifest.precision.compute):
        return {}
    whole = [w for w in plan.writes if not (w.passed or w.without)]
    applies = {id(a.params): a for w in whole if (a := w.apply()) is not None}
    return _ranges(
        zip(a.models, known_weights(a).values, strict=True)
        for a in applies.values()
        if a.method == plan.method
    )


def _ranges(rows: Iterable[Iterable[tuple[str, float]]]) -> dict[str, Range]:
    """Return the range of each name's numbers; not every row need have every name."""
    found: dict[str, list[float]] = {}
    for name, value in chain.from_iterable(rows):
        found.setdefault(name, []).append(value)
    return {name: (min(values), max(values)) for name, values in found.items()}
