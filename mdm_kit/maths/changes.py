"""What several models changed in one linear map, read one after the other, along its longer side.

Everything spectral costs the square of the shorter side. A map with at least as many rows as
columns is read a few rows at a time; of a wider one, whose columns are its lines, a copy is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mdm_kit.maths.covariance import Change
from mdm_kit.maths.strips import spans


class Changes(Protocol):
    """The models' changes in order, all of one shape; they can be gone through more than once.

    A change is there to be read until the next one is asked for.
    """

    @property
    def edges(self) -> Sequence[float]:
        """For each change the largest singular value that rounding of stored weights gives it."""
        ...

    def __len__(self) -> int:
        """Return how many models there are; one at least."""
        ...

    def __iter__(self) -> Iterator[Change]:
        """Return the changes from the first to the last, read anew."""
        ...


class Lines(Protocol):
    """A matrix as `long` lines of `short` numbers each."""

    long: int
    short: int

    def lines(self, start: int, count: int) -> Tensor:
        """Return `count` lines from `start` on: (count, short) float64, the caller's to change."""
        ...


class Held:
    """A matrix (rows, columns) in memory, as lines along its longer side.

    `values` (long, short) float64 is the matrix, or its transpose where it is `turned`: where it
    has more columns than rows. It is allocated by torch, for alignment decides bits.
    """

    def __init__(self, rows: int, columns: int) -> None:
        """Begin with zeros."""
        self.turned = rows < columns
        self.long, self.short = max(rows, columns), min(rows, columns)
        self.values = torch.zeros(self.long, self.short, dtype=torch.float64)

    def lines(self, start: int, count: int) -> Tensor:
        """Return a copy of `count` lines from `start` on."""
        return self.values[start : start + count].clone()

    def add(self, given: Lines) -> None:
        """Add the lines of another matrix of this shape."""
        for start, count in spans(self.long):
            self.values[start : start + count] += given.lines(start, count)

    def times(self, core: Tensor) -> None:
        """Multiply each line by `core` (short, short)."""
        for start, count in spans(self.long):
            self.values[start : start + count] = self.lines(start, count) @ core

    def matrix(self) -> Tensor:
        """Return a view of the matrix (rows, columns)."""
        return self.values.mT if self.turned else self.values


class Columns:
    """The columns of a tensor (long, short) float64 as they are, however many."""

    def __init__(self, values: Tensor) -> None:
        """See `values`, which is not copied."""
        self._values = values
        self.long, self.short = values.shape

    def lines(self, start: int, count: int) -> Tensor:
        """Return a copy of `count` rows from `start` on."""
        return self._values[start : start + count].clone(memory_format=torch.contiguous_format)


class _Rows:
    """The rows of a change that has at least as many as columns, times a weight."""

    def __init__(self, change: Change, weight: float) -> None:
        self.long, self.short = change.rows, change.columns
        self._change, self._weight = change, weight

    def lines(self, start: int, count: int) -> Tensor:
        held = torch.empty(count, self.short, dtype=torch.float64)
        return held.copy_(self._change.lines(start, count)).mul_(self._weight)


def seen(change: Change, weight: float = 1.0) -> Lines:
    """Return a change times a weight, along its longer side; a wide one is copied."""
    if change.rows >= change.columns:
        return _Rows(change, weight)
    held = Held(change.rows, change.columns)
    for start, count in spans(change.rows):
        held.values[:, start : start + count] = change.lines(start, count).mT
    held.values.mul_(weight)
    return held
