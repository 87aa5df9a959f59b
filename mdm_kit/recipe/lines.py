"""Where a character stands: line breaks as YAML 1.1 counts them, offsets to places and back."""

from __future__ import annotations

import re

from mdm_kit.words import Place

BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""A line break of YAML 1.1, section 5.4; the parser counts lines by the same set."""


def place_at(text: str, offset: int, length: int = 1) -> Place:
    """Return the place of the character at `offset` in `text`, counted from line 1, column 1."""
    line, start = 1, 0
    for found in BREAK.finditer(text, 0, offset):
        line, start = line + 1, found.end()
    return Place(line, offset - start + 1, length)


def first_line_length(text: str, start: int, end: int) -> int:
    """Return how many characters of `text[start:end]` stand on its first line, at least 1."""
    found = BREAK.search(text, start, end)
    return max(1, (found.start() if found else end) - start)


def source_lines(text: str) -> list[str]:
    """Return the lines of `text` without their breaks; line n of a place is item n - 1."""
    return BREAK.split(text)
