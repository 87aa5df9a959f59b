"""Which value each parameter has for which tensor: read off a plan's nodes, in full or as rows.

Nothing is resolved again: the values are those the merge will use. Only where a value comes from
(a model's setting, the recipe's, a filter, the default) is looked up in the recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mdm_kit.methods.contract import Method, MethodParams, ParamSpec
from mdm_kit.methods.registry import methods
from mdm_kit.planner.patterns import layer_position
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.writes import taking_part
from mdm_kit.recipe import Recipe, Setting, origin

Value = float | bool | str | tuple[str, ...]
Points = list[tuple[int, Value]]
"""Layers with a parameter's value in each, by rising layer."""

EVERY = "*"
"""Stands for all tensors that are merged."""
STRAIGHT = 1e-9
"""How far a value may lie beside the line of those before it, relative to its size."""
_NO_LAYER = -1
_LEVELS = ("the model", "the recipe")


@dataclass(frozen=True, slots=True)
class Row:
    """What a parameter is for some tensors of some models.

    `models` is empty for a parameter of the whole merge. `source` is `the model`, `the recipe` (or
    its slice) or `default`, `filter` the filter that chose the value. `tensors` are names with `*`
    for the layer's number, or beginnings of names that end in `*`. `layers` is empty where it makes
    no difference. Two `values` are the ends of a straight line over the layers.
    """

    parameter: str
    models: tuple[str, ...]
    source: str
    filter: str | None
    tensors: tuple[str, ...]
    layers: tuple[int, ...]
    values: tuple[Value, ...]


def values_by_tensor(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the parameters of each merged tensor: a value, or one for each model by its name."""
    method = methods()[plan.method]
    params = _params(plan)
    found: dict[str, dict[str, Any]] = {}
    for recipe, tensors in plan.sections:
        names = [m.name for m in taking_part(recipe, method)]
        found |= {
            tensor: {
                s.name: dict(zip(names, getattr(params[tensor], s.field), strict=True))
                if s.per_model
                else getattr(params[tensor], s.field)
                for s in method.params.specs()
            }
            for tensor in params
            if tensor in tensors
        }
    return {tensor: found[tensor] for tensor in params if tensor in found}


def explained(plan: Plan) -> list[Row]:
    """Return the parameters of a plan in few rows that tell them all.

    Models for which a parameter has the same rows share them. Parameters that change nothing are
    left out, as are tensors that are only copied.
    """
    params = _params(plan)
    everywhere: dict[str, set[int]] = {}
    for stem, layer in map(_stem, params):
        everywhere.setdefault(stem, set()).add(layer)
    rows: list[Row] = []
    for recipe, tensors in plan.sections:
        own = {name: p for name, p in params.items() if name in tensors}
        rows += _of_section(recipe, methods()[plan.method], own, everywhere)
    return rows


def _of_section(
    recipe: Recipe,
    method: Method,
    params: Mapping[str, MethodParams],
    everywhere: Mapping[str, set[int]],
) -> list[Row]:
    rows: list[Row] = []
    for spec in method.params.specs():
        overall = recipe.setting(spec.name)
        if spec.inert:
            continue
        if not spec.per_model:
            values = {name: getattr(p, spec.field) for name, p in params.items()}
            rows += _rows(spec, values, [None, overall], everywhere)
            continue
        alike: dict[tuple[Row, ...], list[str]] = {}
        for i, entry in enumerate(taking_part(recipe, method)):
            values = {name: getattr(p, spec.field)[i] for name, p in params.items()}
            found = _rows(spec, values, [entry.setting(spec.name), overall], everywhere)
            alike.setdefault(tuple(found), []).append(entry.name)
        for shared, names in alike.items():
            rows += [replace(row, models=tuple(names)) for row in shared]
    return rows


def _params(plan: Plan) -> dict[str, MethodParams]:
    applies = ((w.name, w.apply()) for w in plan.writes if not (w.passed or w.without))
    return {name: apply.params for name, apply in applies if apply is not None}


def _rows(
    spec: ParamSpec,
    values: Mapping[str, Value],
    levels: Sequence[Setting | None],
    everywhere: Mapping[str, set[int]],
) -> list[Row]:
    """Return the rows of one parameter for one model; rows of one source stand together."""
    by_origin: dict[tuple[int, str | None] | None, list[str]] = {}
    for name in values:
        by_origin.setdefault(origin(levels, name), []).append(name)
    rows = []
    for source, names in by_origin.items():
        level, pattern = ("default", None) if source is None else (_LEVELS[source[0]], source[1])
        for stems, points in _groups({name: values[name] for name in names}, everywhere):
            tensors = _brief(stems, everywhere)
            for layers, ends in _runs(points):
                rows.append(Row(spec.name, (), level, pattern, tensors, layers, ends))
    return rows


def _groups(
    values: Mapping[str, Value], everywhere: Mapping[str, set[int]]
) -> list[tuple[list[str], Points]]:
    """Return the stems that have the same values in the same layers together, with these.

    Where one value holds for all layers a stem has, there is one point.
    """
    by_stem: dict[str, dict[int, Value]] = {}
    for name, value in values.items():
        stem, layer = _stem(name)
        by_stem.setdefault(stem, {})[layer] = value
    groups: dict[tuple[tuple[int, Value], ...], list[str]] = {}
    for stem, by_layer in by_stem.items():
        points = sorted(by_layer.items())
        if len(set(by_layer.values())) == 1 and by_layer.keys() == everywhere[stem]:
            points = [(_NO_LAYER, points[0][1])]
        groups.setdefault(tuple(points), []).append(stem)
    return [(stems, list(points)) for points, stems in groups.items()]


def _stem(name: str) -> tuple[str, int]:
    """Return a tensor's name with `*` for its layer, and the layer."""
    position = layer_position(name)
    if position is None:
        return name, _NO_LAYER
    end = len(position.stack) + name[len(position.stack) :].index(".")
    return f"{position.stack}*{name[end:]}", position.index


def _brief(stems: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the stems, with one `*` in place of all there are, or of all of a stack of layers."""
    if set(known) <= set(stems):
        return (EVERY,)
    brief = list(stems)
    for stack in dict.fromkeys(s.partition(EVERY)[0] for s in stems if EVERY in s):
        inside = {s for s in known if s.startswith(f"{stack}{EVERY}")}
        if len(inside) > 1 and inside <= set(stems):
            first = brief.index(next(s for s in brief if s in inside))
            brief = [s for s in brief if s not in inside]
            brief.insert(first, f"{stack}{EVERY}")
    return tuple(brief)


def _runs(points: Points) -> list[tuple[tuple[int, ...], tuple[Value, ...]]]:
    """Cut layers into runs of one value or along one straight line; return layers and ends."""
    runs: list[Points] = []
    for point in points:
        if runs and _goes_on(runs[-1], point):
            runs[-1].append(point)
        else:
            runs.append([point])
    found: list[tuple[tuple[int, ...], tuple[Value, ...]]] = []
    for run in runs:
        layers = tuple(layer for layer, _ in run if layer != _NO_LAYER)
        first, last = run[0][1], run[-1][1]
        found.append((layers, (first,) if first == last else (first, last)))
    return found


def _goes_on(run: Points, point: tuple[int, Value]) -> bool:
    (start, first), (layer, value) = run[0], point
    if isinstance(first, bool | str | tuple) or isinstance(value, bool | str | tuple):
        return first == value
    if len(run) == 1:
        return True
    second_layer, second = run[1]
    assert not isinstance(second, str | tuple)  # noqa: S101 -- a parameter has one type
    expected = first + (second - first) * (layer - start) / (second_layer - start)
    return abs(value - expected) <= STRAIGHT * max(1.0, abs(value))
