"""Text from a recipe on its way into a message or back into a recipe."""

from __future__ import annotations

import re

from mdm_kit.words import shown

SEEN = 60
"""How many characters of a value a message repeats."""

_PLAIN = re.compile(
    r"[\x20\x21\x23-\x5b\x5d-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]"
)  # c-printable of YAML 1.1 without quote, backslash, line breaks and byte order mark


def seen(text: str) -> str:
    """Return `text` as messages show it: `shown`, at most `SEEN` characters.

    Long text is cut before it is looked at: an alias can name the same megabyte many times.
    """
    return shown(text if len(text) <= 2 * SEEN else text[:SEEN] + text[-SEEN:], SEEN)


def quoted(text: str) -> str:
    """Return `text` as a double-quoted YAML scalar on one line (YAML 1.1, section 5.7)."""
    return '"' + "".join(c if _PLAIN.fullmatch(c) else _escape(c) for c in text) + '"'


def _escape(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    code = ord(c)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"
