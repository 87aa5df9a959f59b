"""Strangers' text inside Markdown: it is read as it stands, and does nothing."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mdm_kit.words import shown

UNCUT = 1 << 30
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
_LINKS = re.compile(r"(?<=:)//|(?<=www)\.|@", re.IGNORECASE)
"""What makes renderers take a bare address for a link."""


def cell(text: str) -> str:
    """Return text for a table's cell or a sentence: one line, no markup, no link of its own."""
    safe = _MARKS.sub(r"\\\1", html.escape(shown(text), quote=False))
    return _LINKS.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), safe)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts, each as a cell."""
    lines = [list(columns), ["---"] * len(columns), *([cell(t) for t in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text: str, language: str) -> str:
    """Return text as a code block that nothing in it can end."""
    lines = "\n".join(shown(line, limit=UNCUT) for line in text.rstrip().splitlines())
    longest = max((len(run) for run in re.findall(r"`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{lines}\n{fence}"


def command(*words: str) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(words)


def plain_setting_text(settings: Mapping[str, Any]) -> str:
    """Return parameters as a recipe writes them in one line."""
    return ", ".join(f"{n}: {json.dumps(v, ensure_ascii=False)}" for n, v in settings.items())
