"""A matrix seen along its longer side, a few lines at a time.

Everything spectral costs the square of the shorter side and can stream along the longer one, so a
head of any vocabulary needs no more memory than the layers below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from mdm_kit.maths.spectral_costs import LINES


class Strip(Protocol):
    """A matrix as `long` lines of `short` numbers each; `short` <= `long`."""

    long: int
    short: int

    def lines(self, start: int, count: int) -> Tensor:
        """Return `count` lines from `start` on: (count, short) float32, contiguous.

        They are the caller's to read until the next call.
        """
        ...


class Accumulator(Strip, Protocol):
    """A strip that can be written."""

    def put(self, start: int, lines: Tensor) -> None:
        """Replace the lines from `start` on by `lines` (count, short) float32, copying them."""
        ...


class MatrixStrip:
    """A float32 matrix in memory, of any strides; writing goes into the matrix itself."""

    def __init__(self, matrix: Tensor) -> None:
        """See `matrix` (out, in) along its longer side: its rows, or its columns if out < in."""
        self._matrix = matrix.mT if matrix.shape[0] < matrix.shape[1] else matrix
        self.long, self.short = self._matrix.shape

    def lines(self, start: int, count: int) -> Tensor:
        """Return `count` lines from `start` on: (count, short) float32, contiguous."""
        return self._matrix[start : start + count].contiguous()

    def put(self, start: int, lines: Tensor) -> None:
        """Replace the lines from `start` on."""
        self._matrix[start : start + len(lines)] = lines


def spans(long: int) -> Iterator[tuple[int, int]]:
    """Yield (start, count) of the lines that are taken at once, from the first to the last."""
    for start in range(0, long, LINES):
        yield start, min(LINES, long - start)
