"""YAML events to located nodes, with every limit checked while the events come in.

Nothing is built from a tag, no alias is ever written out, and no function calls itself: an alias
adds the counted size of what it names, so a document that would unfold to billions of nodes is
refused after a few additions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from mdm_kit.recipe.lines import BREAK, first_line_length
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_mappings import mapping_entries
from mdm_kit.recipe.yaml_nodes import MAX_DEPTH, MAX_NODES, MappingNode, Node, SequenceNode
from mdm_kit.words import Place, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdm_kit.recipe.collector import Collector

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_ANCHOR = re.compile(
    "&[^\\s\\[\\]{},]*(?:[ \t\n\r\x85\u2028\u2029]++(?:#[^\n\r\x85\u2028\u2029]*+)?)*+"
)
"""An anchor and all that may stand between it and its value; possessive, so it takes no memory."""

_ANY_CHARACTER = "found character that cannot start any token"

Span: TypeAlias = tuple[int, int]


class _Refused(Exception):
    """The document cannot be read any further; the finding is in the collector."""


@dataclass(slots=True)
class _Built:
    """A finished node, how many nodes it unfolds to and how many collections deep it is."""

    node: Node
    size: int
    height: int


@dataclass(slots=True)
class _Frame:
    """A collection whose end has not come yet."""

    is_mapping: bool
    start: int
    place: Place
    anchor: str | None
    children: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1


def read_documents(text: str, found: Collector, loader: Any = _LOADER) -> tuple[Node, ...]:
    """Return the root of each YAML document in `text`, which `decode` has let pass.

    None at all mean that nothing could be read and `found` says why; errors that leave the rest
    readable (tags, duplicate keys, keys that are no text) are added to `found` as well. The limits
    are those of all documents together; an anchor counts in its own.
    The default loader is libyaml's where it is installed; the pure Python one is twenty times
    slower.
    """
    builder = _Builder(text, found)
    try:
        for event in yaml.parse(text, loader):
            builder.take(event)
    except yaml.YAMLError as problem:
        _report_syntax(text, problem, found)
        return ()
    except _Refused:
        return ()
    if not builder.roots:
        found.error("expected a recipe, found an empty file", None, "mdm-kit init writes one")
    return tuple(builder.roots)


class _Builder:
    """Takes events one by one and holds the collections that are still open."""

    def __init__(self, text: str, found: Collector) -> None:
        self.roots: list[Node] = []
        self._text = text
        self._found = found
        self._open: list[_Frame] = []
        self._anchors: dict[str, _Built | None] = {}  # None while the node is still open
        self._n_nodes = 0
        self._last_end = 0

    def take(self, event: Any) -> None:
        """Take the next event; raises _Refused where reading on is pointless or dangerous."""
        if reader := _READERS.get(type(event)):
            reader(self, event)

    def _refuse(self, message: str, place: Place, hint: str = "") -> _Refused:
        self._found.error(message, place, hint)
        return _Refused()

    def document(self, event: Any) -> None:  # noqa: ARG002 -- readers have one signature
        """Take the start of a document, which knows no anchor of those before it."""
        self._anchors.clear()

    def scalar(self, event: Any) -> None:
        """Take a scalar."""
        span, place = self._where(event)
        self._last_end = span[1]
        self._check_tag(event, place)
        self._claim(event.anchor, place)
        self._count(1, place)
        node = Scalar(event.value, not event.style, place, span)
        self._place(_Built(node, 1, 0), event.anchor)

    def alias(self, event: Any) -> None:
        """Take an alias: the node it names, counted in full."""
        span = (event.start_mark.index, event.end_mark.index)
        place = _mark_place(event.start_mark, span[1] - span[0])
        self._last_end = span[1]
        name = seen(event.anchor)
        if event.anchor not in self._anchors:
            hint = "text that starts with '*' needs quotes"
            raise self._refuse(f"the alias *{name} has no anchor &{name} before it", place, hint)
        target = self._anchors[event.anchor]
        if target is None:
            raise self._refuse(f"the alias *{name} stands inside the value it names", place)
        if len(self._open) + target.height > MAX_DEPTH:
            raise self._too_deep(place)
        self._count(target.size, place)
        self._place(_Built(_moved(target.node, span), target.size, target.height), None)

    def start(self, event: Any) -> None:
        """Take the start of a list or a mapping."""
        span, place = self._where(event)
        self._last_end = event.end_mark.index
        self._check_tag(event, place)
        self._claim(event.anchor, place)
        self._count(1, place)
        if len(self._open) >= MAX_DEPTH:
            raise self._too_deep(place)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._open.append(_Frame(is_mapping, span[0], place, event.anchor))

    def end(self, event: Any) -> None:
        """Take the end of the innermost open list or mapping."""
        frame = self._open.pop()
        if event.end_mark.index > event.start_mark.index:  # a closing bracket; blocks have none
            self._last_end = event.end_mark.index
        start, stop = frame.start, self._last_end
        if frame.place.line == event.end_mark.line + 1:
            length = stop - start
        else:
            stop = max(start, self._trimmed(start, stop))
            length = first_line_length(self._text, start, stop)
        span, place = (start, stop), Place(frame.place.line, frame.place.column, length)
        node: Node
        if frame.is_mapping:
            entries = mapping_entries(frame.children, self._found)
            node = MappingNode(entries, place, span)
        else:
            node = SequenceNode(tuple(frame.children), place, span)
        self._place(_Built(node, frame.size, frame.height), frame.anchor)

    def _place(self, built: _Built, anchor: str | None) -> None:
        """Put a finished node where it belongs: into the collection around it, or at the root."""
        if anchor is not None:
            self._anchors[anchor] = built
        if not self._open:
            self.roots.append(built.node)
            return
        parent = self._open[-1]
        parent.children.append(built.node)
        parent.size += built.size
        parent.height = max(parent.height, built.height + 1)

    def _claim(self, anchor: str | None, place: Place) -> None:
        if anchor is None:
            return
        if anchor in self._anchors:
            raise self._refuse(f"the anchor &{seen(anchor)} is set twice", place)
        self._anchors[anchor] = None

    def _count(self, n: int, place: Place) -> None:
        self._n_nodes += n
        if self._n_nodes > MAX_NODES:
            limit = f"expected at most {MAX_NODES:,} nodes"
            raise self._refuse(f"{limit} with every alias written out, found more", place)

    def _too_deep(self, place: Place) -> _Refused:
        return self._refuse(f"expected at most {MAX_DEPTH} levels of nesting, found more", place)

    def _check_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None:
            tag = seen(str(event.tag))
            hint = "a recipe needs no tags; text that starts with '!' needs quotes"
            self._found.error(f"the YAML tag '{tag}' is not accepted", place, hint)

    def _where(self, event: Any) -> tuple[Span, Place]:
        """Return the span and place of a scalar, or of a collection's start, past its anchor."""
        mark, stop = event.start_mark, event.end_mark.index
        start, line, column = mark.index, mark.line, mark.column
        one_line = line == event.end_mark.line
        if event.anchor is not None and (skipped := _ANCHOR.match(self._text, start)):
            start = min(skipped.end(), stop)
            column += start - mark.index
            for found in BREAK.finditer(self._text, mark.index, start):
                line, column = line + 1, start - found.end()
        if not one_line:
            stop = max(start, self._trimmed(start, stop))
        length = stop - start if one_line else first_line_length(self._text, start, stop)
        return (start, stop), Place(line + 1, column + 1, length or 1)

    def _trimmed(self, start: int, stop: int) -> int:
        """Return `stop` moved left over white space: block scalars end past their line breaks."""
        text = self._text
        while stop > start and text[stop - 1].isspace():
            stop -= 1
        return stop


_READERS: dict[type, Callable[[_Builder, Any], None]] = {
    yaml.ScalarEvent: _Builder.scalar,
    yaml.AliasEvent: _Builder.alias,
    yaml.MappingStartEvent: _Builder.start,
    yaml.SequenceStartEvent: _Builder.start,
    yaml.MappingEndEvent: _Builder.end,
    yaml.SequenceEndEvent: _Builder.end,
    yaml.DocumentStartEvent: _Builder.document,
}


def _moved(node: Node, span: Span) -> Node:
    """Return the node an alias names as it stands at the alias; what is inside is shared."""
    if isinstance(node, Scalar):
        return Scalar(node.text, node.plain, node.place, span)
    if isinstance(node, SequenceNode):
        return SequenceNode(node.items, node.place, span)
    return MappingNode(node.entries, node.place, span)


def _mark_place(mark: Any, length: int = 1) -> Place:
    return Place(mark.line + 1, mark.column + 1, max(1, length))


def _report_syntax(text: str, problem: yaml.YAMLError, found: Collector) -> None:
    """Add what the parser stumbled over, and what people usually mean when they write that."""
    mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
    said = getattr(problem, "problem", None) or str(problem)
    if "end of stream" in said:  # what is missing at the end was opened elsewhere
        mark = getattr(problem, "context_mark", None) or mark
    if context := getattr(problem, "context", None):
        said = f"{said} ({context})"
    place = _mark_place(mark) if mark is not None else None
    hint = _syntax_hint(said, text[mark.index : mark.index + 1] if mark is not None else "")
    found.error(f"this is not YAML: {shown(said)}", place, hint)


def _syntax_hint(said: str, character: str) -> str:
    if "tab character" in said or (_ANY_CHARACTER in said and character == "\t"):
        return "indent with spaces, not with tabs"
    if _ANY_CHARACTER in said:
        return f"text that starts with '{shown(character)}' needs quotes"
    if "scanning an alias" in said:
        return "text that starts with '*' needs quotes: \"*\""
    if "end of stream" in said:
        return "what starts here is never closed"
    if "mapping values are not allowed" in said:
        return "check the indentation; text that holds ': ' needs quotes"
    if "did not find expected key" in said or "could not find expected ':'" in said:
        return "check the indentation of this line and the one before it"
    return ""
