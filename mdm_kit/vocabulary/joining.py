"""The result's vocabulary: the base's, a model's, or a union, and the tokens asked for besides.

Ids never move: what is new comes behind the last token of the vocabulary that is built on, in the
order of the models and, within a model, of its ids. Rows that lie there unused are taken first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.vocabulary.vocabulary import AddedToken, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Joined:
    """A vocabulary built on another: `vocabulary` has the tokens `new` besides those of `donor`."""

    donor: str
    vocabulary: Vocabulary
    new: tuple[AddedToken, ...]


def joined(
    donor: str, known: Mapping[str, Vocabulary], *, union: bool, tokens: Sequence[str] = ()
) -> Joined:
    """Return the vocabulary of the model `donor` with what is to be added.

    `known` holds the models' vocabularies in their order. In a `union` every token of every model
    is added; `tokens` are added in any case. A token that is an added one somewhere has the flags
    it has there, in the first such model; any other is taken as it stands in the text.
    """
    base = known[donor]
    wanted: dict[str, None] = {}
    if union:
        for vocabulary in known.values():
            wanted |= dict.fromkeys(vocabulary.beyond(base))
    wanted |= dict.fromkeys(t for t in tokens if t not in base.ids)
    new = tuple(_described(token, list(known.values())) for token in wanted)
    ids = dict(base.ids)
    ids |= {token.content: base.end + i for i, token in enumerate(new)}
    added = {**base.added, **{t.content: t for t in new}}
    return Joined(donor, Vocabulary(ids, added, base.file), new)


def _described(token: str, known: Sequence[Vocabulary]) -> AddedToken:
    flags = (v.added[token] for v in known if token in v.added)
    return next(flags, AddedToken(token, normalized=False))
