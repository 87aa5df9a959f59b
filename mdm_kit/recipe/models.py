"""The list under `models`: each item's reference, name and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mdm_kit.recipe.keys import (
    ENTRY_KEYS,
    ENTRY_REFUSED,
    PARAMETER_NAMES,
    SOURCE_KEYS,
    Refusal,
)
from mdm_kit.recipe.model import ModelEntry, Parameter
from mdm_kit.recipe.names import Naming, check_name, name_models
from mdm_kit.recipe.parameters import read_parameters
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.references import LocatedRef, read_reference
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode, kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mdm_kit.recipe.collector import Collector
    from mdm_kit.words import Place

MAX_MODELS = 1000
"""Nobody merges a hundred; a file of 1 MiB can list thirty thousand."""

_RANGE_FORM = "write layer_range: [0, 32] for 32 layers"
_FORM = "write a list: - {model: owner/name, parameters: {weight: 0.5}}"


@dataclass(frozen=True, slots=True)
class _Item:
    """An item that holds a model, before the names are settled."""

    located: LocatedRef
    given: str | None
    parameters: tuple[Parameter, ...]
    place: Place
    name_place: Place
    layer_range: tuple[int, int] | None


def read_models(
    node: Node, found: Collector, key: Literal["models", "sources"] = "models"
) -> tuple[ModelEntry, ...]:
    """Return the models that could be read, in order; `found` says what is wrong with the rest.

    The list stands under `key`; under `sources` each has a range of layers.
    """
    if not isinstance(node, SequenceNode):
        found.error(f"{key}: expected a list, found {kind_of(node)}", node.place, _FORM)
        return ()
    if not node.items:
        found.error(f"{key}: expected at least one model, found an empty list", node.place, _FORM)
    if len(node.items) > MAX_MODELS:
        message = f"{key}: expected at most {MAX_MODELS:,} models, found {len(node.items):,}"
        found.error(message, node.place)
        return ()
    read = [_read_item(item, found, key) for item in node.items]
    items = [item for item in read if item is not None]
    names = name_models([Naming(i.located.ref, i.given, i.name_place) for i in items], found)
    return tuple(
        ModelEntry(
            item.located,
            name,
            item.parameters,
            item.place,
            item.given is not None,
            item.layer_range,
        )
        for item, name in zip(items, names, strict=True)
    )


def _read_item(node: Node, found: Collector, key: Literal["models", "sources"]) -> _Item | None:
    if not isinstance(node, MappingNode):
        message = f"{key}: expected a mapping with the key 'model', found {kind_of(node)}"
        found.error(message, node.place, "write - model: owner/name")
        return None
    sliced = key == "sources"
    known, refused = (SOURCE_KEYS, {}) if sliced else (ENTRY_KEYS, ENTRY_REFUSED)
    values = known_entries(node, known, refused, "of a model", found)
    if "model" not in values:
        found.error(f"{key}: this item names no model", node.place, "write - model: owner/name")
        return None
    if sliced and "layer_range" not in values:
        found.error("sources: this model has no 'layer_range'", node.place, _RANGE_FORM)
    layers = _read_range(values["layer_range"], found) if "layer_range" in values else None
    located = read_reference(values["model"], "model", found)
    given = read_name(values["name"], found) if "name" in values else None
    parameters = read_parameters(values["parameters"], found) if "parameters" in values else ()
    if located is None:
        return None
    name_place = values["name"].place if given is not None else located.place
    return _Item(located, given, parameters, node.place, name_place, layers)


def _read_range(node: Node, found: Collector) -> tuple[int, int] | None:
    """Return the first layer and the one behind the last, or None with a finding."""
    if not isinstance(node, SequenceNode) or len(node.items) != 2:
        found.error(f"layer_range: expected two numbers, found {kind_of(node)}", node.place)
        return None
    numbers = []
    for item in node.items:
        if not isinstance(item, Scalar):
            found.error(f"layer_range: expected a number, found {kind_of(item)}", item.place)
            return None
        try:
            numbers.append(item.as_integer())
        except WrongValue as problem:
            found.wrong("layer_range", problem, item.place)
            return None
    first, behind = numbers
    if not 0 <= first < behind:
        what = "holds no layer" if first >= behind else "begins below 0"
        message = f"layer_range: [{first}, {behind}] {what}; the second number is not included"
        found.error(message, node.place, _RANGE_FORM)
        return None
    return first, behind


def read_name(node: Node, found: Collector) -> str | None:
    """Return the name `node` holds, or None where it is null or, with a finding, unfit."""
    if not isinstance(node, Scalar):
        found.error(f"name: expected a text, found {kind_of(node)}", node.place)
        return None
    if node.is_null:
        return None
    try:
        return check_name(node.text)
    except WrongValue as problem:
        found.wrong("name", problem, node.place)
        return None


def known_entries(
    node: MappingNode,
    known: Collection[str],
    refused: Mapping[str, Refusal],
    where: str,
    found: Collector,
) -> dict[str, Node]:
    """Return the values of the known keys; every other key is reported by name."""
    values: dict[str, Node] = {}
    for key, value in node.entries:
        if key.text in known:
            values[key.text] = value
        elif key.text in refused and isinstance(value, Scalar) and value.is_null:
            continue  # said to be absent, and it is
        elif refusal := refused.get(key.text):
            message = f"the key '{seen(key.text)}' {where} {refusal.reason}"
            found.error(message, key.place, refusal.hint)
        elif key.text in PARAMETER_NAMES:
            found.error(
                f"the parameter '{key.text}' {where} stands outside 'parameters'",
                key.place,
                f"did you mean parameters: {{{key.text}: ...}}? check the indentation",
            )
        else:
            found.unknown_key(key, known, where)
    return values
