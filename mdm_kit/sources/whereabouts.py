"""How an error in this room says where: the model, the file in it, the tensor in that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMED_AT_MOST = 10
"""How many names one message lists before it says how many more there are."""


def at(source: str, file: str | None = None, tensor: str | None = None) -> str:
    """Return `model 'x', file 'y', tensor 'z'`, every name safe for a terminal."""
    text = f"model '{shown(source)}'"
    if file is not None:
        text += f", file '{shown(file)}'"
    if tensor is not None:
        text += f", tensor '{shown(tensor)}'"
    return text


def named(names: Iterable[str], limit: int = NAMED_AT_MOST) -> str:
    """Return the names quoted and joined, at most `limit` of them, then `and N more`."""
    listed = list(names)
    text = ", ".join(f"'{shown(name)}'" for name in listed[:limit])
    if len(listed) > limit:
        text += f" and {len(listed) - limit} more"
    return text
