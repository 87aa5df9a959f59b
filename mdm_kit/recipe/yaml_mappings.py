"""Keys and values to the entries of a mapping: keys are texts, each once, merge keys merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdm_kit.recipe.collector import Collector

MERGE_KEY = "<<"

MAX_KEY = 200
"""No key of a recipe comes near; an alias can be the same long key in many mappings."""


def mapping_entries(children: Sequence[Node], found: Collector) -> tuple[tuple[Scalar, Node], ...]:
    """Return the entries of a mapping whose keys and values alternate in `children`.

    Of two entries with the same key the first is kept, and the second is an error. What `<<` brings
    in comes last and never replaces a key that is written out (YAML 1.1, merge key type).
    """
    own: dict[str, tuple[Scalar, Node]] = {}
    merged: tuple[Scalar, Node] | None = None
    for key, value in zip(children[::2], children[1::2], strict=True):
        if not isinstance(key, Scalar):
            found.error(f"a key must be a text, found {kind_of(key)}", key.place, _BRACES)
        elif key.plain and key.text == MERGE_KEY:
            if merged is not None:
                _report_twice(key, merged[0], found, "list what is to be merged: <<: [*a, *b]")
            else:
                merged = key, value
        elif len(key.text) > MAX_KEY:
            found.error(
                f"a key has at most {MAX_KEY} characters, found {seen(key.text)}", key.place
            )
        elif key.looks_untextual:
            what = f"'{seen(key.text)}'" if key.text else "nothing"
            found.error(f"a key must be a text, found {what}", key.place, "put it in quotes")
        elif key.text in own:
            _report_twice(key, own[key.text][0], found, "keep one of the two")
        else:
            own[key.text] = key, value
    if merged is not None:
        for source in _merge_sources(merged[1], found):
            for key, value in source.entries:
                own.setdefault(key.text, (key, value))
    return tuple(own.values())


_BRACES = "text that starts with '{' or '[' needs quotes"


def _report_twice(key: Scalar, first: Scalar, found: Collector, hint: str) -> None:
    name = seen(key.text)
    found.error(f"the key '{name}' stands in line {first.place.line} already", key.place, hint)


def _merge_sources(value: Node, found: Collector) -> Sequence[MappingNode]:
    """Return the mappings `<<` names; the earlier ones win over the later."""
    items = value.items if isinstance(value, SequenceNode) else (value,)
    for item in items:
        if not isinstance(item, MappingNode):
            message = f"'<<' takes a mapping or a list of mappings, found {kind_of(item)}"
            found.error(message, item.place)
    return [item for item in items if isinstance(item, MappingNode)]
