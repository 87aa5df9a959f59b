"""Bytes to text: size, UTF-8 and the characters YAML forbids, checked before any parsing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mdm_kit.recipe.lines import place_at
from mdm_kit.recipe.yaml_nodes import MAX_BYTES
from mdm_kit.words import human_bytes

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # YAML 1.1, section 5.1: everything that is not c-printable

_DIRECTIVE = re.compile("(?:\\A|[\n\r\x85\u2028\u2029])(%(?!YAML[ \t])[^\n\r\x85\u2028\u2029]*)")


def decode(data: str | bytes, found: Collector) -> tuple[str, bool]:
    """Return the text without its byte order mark, and whether it may be parsed.

    Where it may not, `found` says why, and the text is only good for showing the place.
    """
    size = len(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        limit = human_bytes(MAX_BYTES)
        found.error(
            f"expected a recipe of at most {limit}, found {human_bytes(size)}",
            None,
            "a recipe names models and settings; is this the right file?",
        )
        return "", False
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as problem:
            return _refuse_bytes(data, problem, found), False
    else:
        text = data
    text = text.lstrip("\ufeff")
    return text, _check_characters(text, found)


def _refuse_bytes(data: bytes, problem: UnicodeDecodeError, found: Collector) -> str:
    before = data[: problem.start].decode("utf-8").lstrip("\ufeff")
    byte = data[problem.start]
    found.error(
        f"expected UTF-8 text, found the byte 0x{byte:02x} at offset {problem.start}",
        place_at(before, len(before)),
        "save the file as UTF-8",
    )
    return data.decode("utf-8", "replace").lstrip("\ufeff")


def _check_characters(text: str, found: Collector) -> bool:
    """Return whether a YAML parser may see `text`; the first thing it may not see is reported."""
    if bad := _FORBIDDEN.search(text):
        code = ord(bad[0])
        name = "a NUL" if code == 0 else f"the character U+{code:04X}"
        place = place_at(text, bad.start())
        found.error(f"{name} stands in the text; YAML forbids it", place, "remove it")
        return False
    # The parser compares each %TAG with all before it, and a recipe has no tags to declare.
    if line := _DIRECTIVE.search(text):
        place = place_at(text, line.start(1), len(line[1]))
        found.error("a line that starts with '%' is a YAML directive; none is accepted", place)
        return False
    return True
