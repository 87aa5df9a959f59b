"""What a model's card says it was made from.

Only for people to read: the card is a stranger's text, and nothing is opened because of it.
"""

from __future__ import annotations

import re

from mdm_kit.sources.hub_names import is_repo_id

CARD = "README.md"
MAX_CARD_BYTES = 1024 * 1024

_FRONT = re.compile(r"\A(?:\ufeff)?---\s*?\n(.*?)\n---\s*?(?:\n|\Z)", re.DOTALL)
_KEY = re.compile(r"^base_model:[ \t]*(.*)$", re.MULTILINE)
_ITEM = re.compile(r"[ \t]*-[ \t]+(.+)")
_QUOTES = "'\""


def stated_bases(card: str) -> tuple[str, ...]:
    """Return the repositories that `base_model` in a card's front matter names, in its order."""
    front = _FRONT.match(card)
    key = _KEY.search(front[1]) if front else None
    if front is None or key is None:
        return ()
    inline = key[1].strip()
    if inline:
        found = inline.strip("[]").split(",") if inline.startswith("[") else [inline]
    else:
        found = []
        for line in front[1][key.end() :].splitlines()[1:]:
            item = _ITEM.fullmatch(line.rstrip())
            if item is None:
                break
            found.append(item[1])
    names = (name.strip().strip(_QUOTES) for name in found)
    return tuple(name for name in names if is_repo_id(name))
