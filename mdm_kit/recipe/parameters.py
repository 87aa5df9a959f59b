"""Blocks of parameters: each name with a scalar, a gradient over layers or name filters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mdm_kit.recipe.keys import FILTER_KEYS
from mdm_kit.recipe.model import Filtered, Filters, Gradient, Parameter, Setting
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode, kind_of

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

_FILTER_FORM = "values by tensor name are written [{filter: mlp, value: 0.5}, {value: 1.0}]"
_GRADIENT_FORM = "a gradient is a flat list, one value per anchor layer: [0, 0.5, 1]"


def read_parameters(node: Node, found: Collector) -> tuple[Parameter, ...]:
    """Return the parameters of one block in the order written; a null block is an empty one.

    A parameter whose setting is malformed is left out and reported in `found`.
    """
    if isinstance(node, Scalar) and node.is_null:
        return ()
    if not isinstance(node, MappingNode):
        message = f"parameters: expected a mapping, found {kind_of(node)}"
        found.error(message, node.place, "write parameters: {weight: 0.5}")
        return ()
    read = [
        (key, read_setting(value, f"the parameter '{seen(key.text)}'", found))
        for key, value in node.entries
    ]
    return tuple(Parameter(k.text, setting, k.place) for k, setting in read if setting is not None)


def read_setting(node: Node, what: str, found: Collector) -> Setting | None:
    """Return the setting `node` holds, or None with the reason in `found`."""
    if isinstance(node, Scalar):
        if node.is_null:
            found.error(f"{what} has no value", node.place, "leave it out for the default")
            return None
        return node
    if isinstance(node, MappingNode):
        lone = _read_filtered(node, what, found)
        return Filters((lone,), node.place) if lone else None
    if not node.items:
        found.error(f"{what} is an empty list", node.place, "leave it out for the default")
        return None
    if any(isinstance(item, MappingNode) for item in node.items):
        return _read_filters(node, what, found)
    return _read_gradient(node, what, found)


def _read_gradient(node: SequenceNode, what: str, found: Collector) -> Gradient | None:
    values: list[Scalar] = []
    for item in node.items:
        if not isinstance(item, Scalar):
            found.error(f"{what} holds a list inside a list", item.place, _GRADIENT_FORM)
        elif item.is_null:
            found.error(f"{what} holds an empty value", item.place, _GRADIENT_FORM)
        else:
            values.append(item)
    return Gradient(tuple(values), node.place) if len(values) == len(node.items) else None


def _read_filters(node: SequenceNode, what: str, found: Collector) -> Filters | None:
    entries: list[Filtered] = []
    for item in node.items:
        if not isinstance(item, MappingNode):
            message = f"{what} mixes filters with {kind_of(item)}"
            found.error(message, item.place, f"{_FILTER_FORM}; {_GRADIENT_FORM}")
        elif entry := _read_filtered(item, what, found):
            entries.append(entry)
    _warn_unreachable(entries, what, found)
    return Filters(tuple(entries), node.place) if len(entries) == len(node.items) else None


def _read_filtered(node: MappingNode, what: str, found: Collector) -> Filtered | None:
    parts = {key.text: value for key, value in node.entries}
    unknown = [key for key, _ in node.entries if key.text not in FILTER_KEYS]
    if unknown and not parts.keys() & FILTER_KEYS.keys():
        found.error(f"{what} is a mapping of other keys", node.place, _FILTER_FORM)
        return None
    for key in unknown:
        found.unknown_key(key, FILTER_KEYS, f"in a filter of {what}")
    if "value" not in parts and not unknown:
        found.error(f"a filter of {what} has no 'value'", node.place, _FILTER_FORM)
        return None
    if "value" not in parts:
        return None
    pattern = parts.get("filter")
    if pattern is not None and not isinstance(pattern, Scalar):
        message = f"a filter of {what}: expected a part of a tensor's name"
        found.error(f"{message}, found {kind_of(pattern)}", pattern.place, _FILTER_FORM)
        return None
    value = _read_value(parts["value"], what, found)
    if value is None or unknown:
        return None
    text = None if pattern is None or pattern.is_null else pattern.text
    return Filtered(text, value, node.place)


def _read_value(node: Node, what: str, found: Collector) -> Scalar | Gradient | None:
    """Return the scalar or gradient of a filter; a filter inside a filter is refused."""
    inner = node.items if isinstance(node, SequenceNode) else (node,)
    if any(isinstance(item, MappingNode) for item in inner):
        found.error(f"{what} holds a filter inside a filter", node.place, _FILTER_FORM)
        return None
    setting = read_setting(node, what, found)
    return None if isinstance(setting, Filters) else setting


def _warn_unreachable(entries: list[Filtered], what: str, found: Collector) -> None:
    for before, entry in pairwise(entries):
        if before.filter in (None, "*"):
            message = f"this filter of {what} is never reached"
            hint = "the entry before it takes every tensor; put it last"
            found.warning(message, entry.place, hint)
            return
