"""Token ids that configs name, in the ids of another vocabulary: found again by the token's text.

What the other vocabulary lacks is what its own model's config says under the same key, and else
left out: a wrong end of text makes a model talk for ever.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mdm_kit.vocabulary.vocabulary import Vocabulary

_KEYS = re.compile(r"\w*_token_(?:ids?|index)|suppress_tokens|begin_suppress_tokens")


def retold(
    config: dict[str, Any], old: Vocabulary, new: Vocabulary, stated: Mapping[str, Any]
) -> bool:
    """Change the ids in `config` and in what it holds from `old` to `new`; say if any changed.

    `stated` is the file of the same name of the model `new` is from.
    """
    changed = False
    for part, theirs in _parts(config, stated):
        for key in [k for k in part if _KEYS.fullmatch(k)]:
            ids = part[key]
            found = _found(ids, old, new)
            if found is None:
                found = theirs.get(key)
            if found != ids:
                part[key] = found
                changed = True
    return changed


def _parts(
    config: dict[str, Any], stated: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    yield config, stated
    for key, value in config.items():
        if isinstance(value, dict):
            theirs = stated.get(key)
            yield from _parts(value, theirs if isinstance(theirs, dict) else {})


def _found(ids: object, old: Vocabulary, new: Vocabulary) -> object:
    """Return an id, or a list of them, in the new vocabulary; None where nothing is left."""
    if isinstance(ids, list):
        found = [f for i in ids if (f := _found(i, old, new)) is not None]
        return found if found or not ids else None
    if isinstance(ids, bool) or not isinstance(ids, int):
        return None if ids is not None else ids
    token = old.by_id.get(ids)
    return None if token is None else new.ids.get(token)
