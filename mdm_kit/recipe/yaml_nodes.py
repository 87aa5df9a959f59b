"""What a YAML document is made of here: scalars, sequences and mappings that know their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mdm_kit.recipe.scalars import Scalar

if TYPE_CHECKING:
    from mdm_kit.words import Place

MAX_BYTES = 1 << 20
"""A recipe is a page; 1 MiB is a thousand of them."""

MAX_DEPTH = 32
"""Collections within collections; a recipe needs seven."""

MAX_NODES = 100_000
"""Scalars, sequences and mappings of the document with every alias written out."""


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list, in the order written."""

    items: tuple[Node, ...]
    place: Place = field(compare=False)
    span: tuple[int, int] = field(compare=False)


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping, in the order written: keys are texts and unique, merge keys already merged in."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place = field(compare=False)
    span: tuple[int, int] = field(compare=False)


Node: TypeAlias = Scalar | SequenceNode | MappingNode
"""A node. `place` is where the value is written; `span` is the half-open range of characters it
takes up where it is used, without its anchor: for an alias the alias itself."""


def kind_of(node: Node) -> str:
    """Return what a person calls this node: a list, a mapping, nothing, a text."""
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "a mapping"
    return "nothing" if node.is_null else "a single value"
