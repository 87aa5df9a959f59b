"""Values of one kind behind a key: what was expected there is said where something else stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdm_kit.recipe.collector import Collector


def scalar_of(key: str, node: Node, found: Collector) -> Scalar | None:
    """Return a single value, or None with a finding."""
    if isinstance(node, Scalar):
        return node
    found.error(f"{key}: expected a single value, found {kind_of(node)}", node.place)
    return None


def mapping_of(key: str, node: Node, form: str, found: Collector) -> MappingNode | None:
    """Return a mapping, or None with a finding that says in which `form` to write it."""
    if isinstance(node, MappingNode):
        return node
    found.error(f"{key}: expected a mapping, found {kind_of(node)}", node.place, f"write {form}")
    return None


def choice_of(
    key: str, node: Node, options: Sequence[str], later: Sequence[str], found: Collector
) -> str | None:
    """Return the option `node` names; what is documented for later is refused by name."""
    scalar = scalar_of(key, node, found)
    if scalar is None:
        return None
    if scalar.text in later:
        message = f"{key}: '{scalar.text}' is not available in this version"
        found.error(message, scalar.place, f"one of {', '.join(options)}")
        return None
    try:
        return scalar.as_choice(options)
    except WrongValue as problem:
        found.wrong(key, problem, scalar.place)
        return None
