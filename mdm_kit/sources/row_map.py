"""Where each row of a tensor comes from, as runs of rows that lie together."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ZERO, MEAN, PADDING = -1, -2, -3
"""Origins that are no tensor: zeros, the mean of some rows, the mean of all rows with a token."""


@dataclass(frozen=True, slots=True)
class Run:
    """The elements from `start` to `stop` come from `origin`, from its element `first` on.

    A run of means has in `first` the number of the mean times a row's width, and counts on.
    """

    start: int
    stop: int
    origin: int
    first: int


@dataclass(frozen=True)
class RowMap:
    """For each row its `origins` and the number of its row there, both int64 of shape (rows,).

    An origin counts the tensors rows are taken from, or is one of `ZERO`, `MEAN`, `PADDING`. A row
    `MEAN` has in `rows` which of `means` it is: the (tensor, row) pairs that are averaged. `real`
    are the rows that have a token.
    """

    origins: NDArray[np.int64]
    rows: NDArray[np.int64]
    means: tuple[tuple[tuple[int, int], ...], ...]
    real: NDArray[np.bool_]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.origins)

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of every run."""
        origins, rows = self.origins, self.rows
        follows = (origins[1:] == origins[:-1]) & (rows[1:] == rows[:-1] + 1)
        follows |= (origins[1:] == origins[:-1]) & (
            (origins[1:] == ZERO) | (origins[1:] == PADDING)
        )
        return [0, *(np.flatnonzero(~follows) + 1).tolist()] if len(origins) else []

    def is_identity(self, me: int, n_rows: int) -> bool:
        """Whether the rows are those of tensor `me`, which has `n_rows`, in order."""
        if self.n_rows != n_rows or not (self.origins == me).all():
            return False
        return bool((self.rows == np.arange(n_rows)).all())

    def runs(self, width: int, start: int, stop: int) -> Iterator[Run]:
        """Yield the runs of the elements from `start` to `stop` of a tensor with rows of `width`.

        A run is cut where the range ends.
        """
        if start >= stop:
            return
        starts = self._starts
        i = bisect_right(starts, start // width) - 1
        while i < len(starts) and starts[i] * width < stop:
            row = starts[i]
            low = max(start, row * width)
            end = starts[i + 1] if i + 1 < len(starts) else self.n_rows
            first = int(self.rows[row]) * width + low - row * width
            yield Run(low, min(stop, end * width), int(self.origins[row]), first)
            i += 1

    def runs_from(self, origin: int) -> int:
        """Return how many runs read tensor `origin`, each row of a mean counted as one."""
        runs = int((self.origins[self._starts] == origin).sum()) if self.n_rows else 0
        return runs + sum(o == origin for mean in self.means for o, _ in mean)

    def takes(self) -> frozenset[int]:
        """Return the origins of all rows, those of means included."""
        found = {int(o) for o in np.unique(self.origins)}
        return frozenset(found | {o for mean in self.means for o, _ in mean})

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all of it."""
        sha = hashlib.sha256(repr((self.n_rows, self.means)).encode())
        for array in (self.origins, self.rows, self.real):
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()
