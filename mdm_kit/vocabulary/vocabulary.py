"""A vocabulary as a value: every token with its id, and what is special about added ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ID = (1 << 31) - 1
"""Ids are 32-bit numbers in `tokenizers`; the largest vocabularies have 262,144."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token matched in the text before the model of the tokenizer sees it.

    The flags are those of `tokenizers.AddedToken`; a `special` one is left out of decoded text.
    """

    content: str
    special: bool = False
    normalized: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """Every token's id, and the added tokens among them; `file` is where they were read from."""

    ids: Mapping[str, int]
    added: Mapping[str, AddedToken]
    file: str

    @cached_property
    def end(self) -> int:
        """One more than the highest id, 0 for an empty vocabulary."""
        return max(self.ids.values(), default=-1) + 1

    @cached_property
    def by_id(self) -> dict[int, str]:
        """The tokens by their ids, ascending; of two with one id the first of the file."""
        found: dict[int, str] = {}
        for token, i in self.ids.items():
            found.setdefault(i, token)
        return dict(sorted(found.items()))

    @cached_property
    def digest(self) -> str:
        """`sha256:...` of every token with its id; two equal ones give every row one meaning."""
        text = "\n".join(f"{i}\0{t!r}" for t, i in sorted(self.ids.items()))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def moved(self, other: Vocabulary) -> list[str]:
        """Return the tokens that both have under different ids, in the order of this one's ids."""
        ids = other.ids
        return [t for i, t in self.by_id.items() if t in ids and ids[t] != i]

    def beyond(self, other: Vocabulary) -> list[str]:
        """Return the tokens that `other` does not have, in the order of their ids."""
        return [t for t in self.by_id.values() if t not in other.ids]
