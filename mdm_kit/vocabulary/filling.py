"""Which row each token gets in each model: its own, or one that stands in for it.

A token the model has keeps the model's own row. One it lacks gets the base's row; else the row of
the only model that has it; else the mean of the rows of those that have it; zeros where nobody has.
A rule of the recipe comes before all of these, and with `force` before the model's own row. An id
without a token, among the rows of the model the vocabulary is of, keeps the model's own row where
nothing else of the model lies there, else the row of that model; rows behind those are new, and get
the mean of the rows that have a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mdm_kit.sources.row_map import MEAN, PADDING, ZERO, RowMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mdm_kit.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Owner:
    """A model with rows: its tokens' ids and how many rows its embedding has."""

    ids: Mapping[str, int]
    rows: int


@dataclass(frozen=True, slots=True)
class Fill:
    """The row of a rule: row `row` of owner `owner`, or zeros where that is None."""

    owner: int | None
    row: int
    force: bool


class Filling:
    """Row maps of all owners for one vocabulary; `donor` gave it, `base` is the recipe's, or none.

    Only the owners in `having` have the tensor.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        owners: Sequence[Owner],
        rules: Mapping[str, Fill],
        n_rows: int,
        *,
        donor: int,
        base: int | None,
        having: frozenset[int],
    ) -> None:
        """Look every token up in every owner; takes 0.1 s for each million of look-ups."""
        self._n_rows, self._donor, self._having = n_rows, donor, having
        self._owners = owners
        tokens = [t for i, t in vocabulary.by_id.items() if i < n_rows]
        self._ids = np.fromiter((vocabulary.ids[t] for t in tokens), np.int64, len(tokens))
        self._found = np.stack([_rows_of(o, tokens) for o in owners])
        self._found[[i for i in range(len(owners)) if i not in having]] = -1
        self._means: list[tuple[tuple[int, int], ...]] = []
        self._origin, self._row = self._stand_ins(base)
        self._forced = np.zeros(len(tokens), bool)
        self._apply(rules, tokens)

    def map_of(self, me: int) -> RowMap:
        """Return where the rows of owner `me` come from."""
        origins, rows = self._without_token(me)
        own = (self._found[me] >= 0) & ~self._forced
        origins[self._ids] = np.where(own, me, self._origin)
        rows[self._ids] = np.where(own, self._found[me], self._row)
        real = np.zeros(self._n_rows, bool)
        real[self._ids] = True
        used = origins == MEAN
        return RowMap(origins, rows, tuple(self._means) if used.any() else (), real)

    def _stand_ins(self, base: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return origin and row of what stands in for each token where a model lacks it."""
        found = self._found
        has = found >= 0
        count = has.sum(axis=0)
        at = np.arange(found.shape[1])
        origin = np.where(count == 0, ZERO, has.argmax(axis=0))
        if base is not None:
            origin[has[base]] = base
        row = np.where(origin >= 0, found[origin, at], 0)
        averaged = count > 1
        if base is not None:
            averaged &= ~has[base]
        for k in np.flatnonzero(averaged):
            origin[k], row[k] = MEAN, len(self._means)
            self._means.append(tuple((int(i), int(found[i, k])) for i in np.flatnonzero(has[:, k])))
        return origin, row

    def _apply(self, rules: Mapping[str, Fill], tokens: Sequence[str]) -> None:
        places = {t: k for k, t in enumerate(tokens) if t in rules} if rules else {}
        for token, k in places.items():
            fill = rules[token]
            self._origin[k] = ZERO if fill.owner is None else fill.owner
            self._row[k] = fill.row
            self._forced[k] = fill.force

    def _without_token(self, me: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return origins and rows as they are for ids without a token."""
        rows = np.arange(self._n_rows, dtype=np.int64)
        origins = np.full(self._n_rows, PADDING, np.int64)
        there = self._owners[self._donor].rows
        if self._donor in self._having:
            origins[:there] = self._donor
        mine = self._owners[me]
        free = np.ones(min(mine.rows, there), bool)
        taken = np.fromiter(mine.ids.values(), np.int64, len(mine.ids))
        free[taken[taken < len(free)]] = False
        origins[: len(free)][free] = me
        rows[origins == PADDING] = 0
        return origins, rows


def _rows_of(owner: Owner, tokens: Sequence[str]) -> NDArray[np.int64]:
    """Return each token's row in an owner, -1 where it has none."""
    ids = owner.ids
    found = np.fromiter((ids.get(t, -1) for t in tokens), np.int64, len(tokens))
    found[found >= owner.rows] = -1
    return found
