"""Are the ranges of layers that slices name all of their models' layers?"""

from __future__ import annotations

from mdm_kit.planner.patterns import layer_position
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.recipe import ModelEntry, Recipe
from mdm_kit.words import Finding, Kind, Level, shown


def cut_layers(recipe: Recipe, survey: Survey) -> list[Finding]:
    """Return an error for each model of which a slice takes something else than all layers."""
    surveyed = {s.name: s for s in survey.models}
    pairs = [(m, surveyed[m.name]) for m in recipe.models if m.layer_range and m.name in surveyed]
    return [found for entry, model in pairs if (found := _cut(entry, model))]


def _cut(entry: ModelEntry, model: Surveyed) -> Finding | None:
    positions = [p for name in model.checkpoint.tensors if (p := layer_position(name))]
    stacks = {p.stack for p in positions}
    n_layers = max((p.index + 1 for p in positions), default=0)
    if entry.layer_range == (0, n_layers) and len(stacks) == 1:
        return None
    assert entry.layer_range is not None  # noqa: S101 -- or it would not be asked for
    first, behind = entry.layer_range
    hint = "list whole models under 'models'"
    if len(stacks) != 1:
        what = f"{shown(model.name)} has {len(stacks)} stacks of layers, so slices fit none of them"
    elif behind > n_layers:
        what = f"{shown(model.name)} has {n_layers} layers, found layer_range [{first}, {behind}]"
        hint = f"write layer_range: [0, {n_layers}]; the second number is not included"
    else:
        what = (
            f"layer_range [{first}, {behind}] leaves out some of the {n_layers} layers of "
            f"{shown(model.name)}, which is not available in this version"
        )
        hint = f"write layer_range: [0, {n_layers}]"
    return Finding(Level.ERROR, Kind.RECIPE, what, hint, entry.place)
