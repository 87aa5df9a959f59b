"""Findings for people: file, line and column, the source line, and a caret under the place."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from mdm_kit.recipe.lines import source_lines
from mdm_kit.words import Finding, Place, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

INDENT = "    "
WINDOW = 100
"""How many characters of a source line are shown at most."""

_BEFORE = 50
_MAX_MESSAGE = 1000
_TAB = "    "


def render(findings: Iterable[Finding], text: str, filename: str = "recipe.yml") -> str:
    """Return the findings in the order of their places, each with its line and a caret.

    Everything from the recipe is shown without control characters; findings without a place come
    last, without a caret. The result ends without a line break and is empty for no findings.
    """
    lines = source_lines(text)
    name = shown(filename)
    return "\n".join(_render_one(f, lines, name) for f in sorted(findings, key=_order))


def _order(finding: Finding) -> tuple[int, int, int]:
    place = finding.place
    return (0, place.line, place.column) if place is not None else (1, 0, 0)


def _render_one(finding: Finding, lines: list[str], filename: str) -> str:
    place = finding.place
    where = f"{filename}:{place.line}:{place.column}" if place is not None else filename
    message = shown(finding.message, _MAX_MESSAGE)
    parts = [f"{where}: {finding.level.value}: {message}"]
    if place is not None and 1 <= place.line <= len(lines):
        parts.extend(_excerpt(lines[place.line - 1], place))
    if finding.hint:
        parts.append(f"{INDENT}hint: {shown(finding.hint, _MAX_MESSAGE)}")
    return "\n".join(parts)


def _excerpt(line: str, place: Place) -> tuple[str, str]:
    """Return the part of a source line around a place, and the line of carets under it."""
    column = min(place.column - 1, len(line))
    first = max(0, min(column - _BEFORE, len(line) - WINDOW))
    last = min(len(line), first + WINDOW)
    head = ("..." if first else "") + _safe(line[first:column])
    marked = _safe(line[column : min(last, column + place.length)])
    tail = _safe(line[min(last, column + place.length) : last]) + (
        "..." if last < len(line) else ""
    )
    carets = " " * _width(head) + "^" * max(1, _width(marked))
    return INDENT + head + marked + tail, INDENT + carets


def _safe(text: str) -> str:
    """Return source text as it is shown: tabs as spaces, what could move a cursor escaped."""
    return "".join(_TAB if c == "\t" else shown(c) for c in text)


def _width(text: str) -> int:
    """Return how many columns of a terminal `text` takes up."""
    return sum(
        0
        if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me")
        else 2
        if unicodedata.east_asian_width(c) in ("W", "F")
        else 1
        for c in text
    )
