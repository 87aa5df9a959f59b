"""What cannot be merged where not every model has a tensor (`on_mismatch: skip`)."""

from __future__ import annotations

from collections.abc import Sequence

from mdm_kit.methods.contract import Method
from mdm_kit.planner.nodes import Write
from mdm_kit.recipe import Recipe
from mdm_kit.words import Finding, Kind, Level, some


def unable(recipe: Recipe, method: Method, writes: Sequence[Write]) -> list[Finding]:
    """Return why a method cannot merge tensors of fewer models than there are."""
    partial = [w.name for w in writes if w.without]
    if not partial:
        return []
    scopes = {getattr(a.params, "scope", "tensor") for w in writes if (a := w.apply()) is not None}
    if method.solve is not None and scopes - {"tensor"}:
        why = (
            "tensors that are solved together need the same models, and some lack "
            f"{some(partial)}; scope: tensor solves each by itself"
        )
    elif method.keeps_sums:
        why = (
            f"{method.name} measures every model over all its tensors, and some lack "
            f"{some(partial)}"
        )
    else:
        return []
    hint = "on_mismatch: base copies such tensors from the base instead"
    place = recipe.place_of("on_mismatch") or recipe.merge_method.place
    message = f"on_mismatch: skip is not possible here: {why}"
    return [Finding(Level.ERROR, Kind.MISFIT, message, hint, place)]
