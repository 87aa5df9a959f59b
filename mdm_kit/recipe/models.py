"""The list under `models`: each item's reference, name and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.recipe.keys import ENTRY_KEYS, ENTRY_REFUSED, PARAMETER_NAMES, Refusal
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

_FORM = "write a list: - {model: owner/name, parameters: {weight: 0.5}}"


@dataclass(frozen=True, slots=True)
class _Item:
    """An item that holds a model, before the names are settled."""

    located: LocatedRef
    given: str | None
    parameters: tuple[Parameter, ...]
    place: Place
    name_place: Place


def read_models(node: Node, found: Collector) -> tuple[ModelEntry, ...]:
    """Return the models that could be read, in order; `found` says what is wrong with the rest."""
    if not isinstance(node, SequenceNode):
        found.error(f"models: expected a list, found {kind_of(node)}", node.place, _FORM)
        return ()
    if not node.items:
        found.error("models: expected at least one model, found an empty list", node.place, _FORM)
    if len(node.items) > MAX_MODELS:
        message = f"models: expected at most {MAX_MODELS:,} models, found {len(node.items):,}"
        found.error(message, node.place)
        return ()
    read = [_read_item(item, found) for item in node.items]
    items = [item for item in read if item is not None]
    names = name_models([Naming(i.located.ref, i.given, i.name_place) for i in items], found)
    return tuple(
        ModelEntry(item.located, name, item.parameters, item.place, item.given is not None)
        for item, name in zip(items, names, strict=True)
    )


def _read_item(node: Node, found: Collector) -> _Item | None:
    if not isinstance(node, MappingNode):
        message = f"models: expected a mapping with the key 'model', found {kind_of(node)}"
        found.error(message, node.place, "write - model: owner/name")
        return None
    values = known_entries(node, ENTRY_KEYS, ENTRY_REFUSED, "of a model", found)
    if "model" not in values:
        found.error("models: this item names no model", node.place, "write - model: owner/name")
        return None
    located = read_reference(values["model"], "model", found)
    given = read_name(values["name"], found) if "name" in values else None
    parameters = read_parameters(values["parameters"], found) if "parameters" in values else ()
    if located is None:
        return None
    name_place = values["name"].place if given is not None else located.place
    return _Item(located, given, parameters, node.place, name_place)


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
