"""A linear map that lies inside a tensor, free of heavy imports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Axes = tuple[tuple[int, int], ...]
"""(count, step) of each axis, outer first; steps count elements."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear map (out, in) as a strided view of a tensor's flat elements.

    `start` is its first element, `out` the axes of the output features and `inner` those of the
    input features: the counts of each multiply to n_out and n_in.
    """

    start: int
    out: Axes
    inner: Axes

    @classmethod
    def plain(cls, n_out: int, n_in: int, start: int = 0) -> Matrix:
        """Return the map stored as (out, in) from element `start` on, as nn.Linear stores it."""
        return cls(start, ((n_out, n_in),), ((n_in, 1),))

    @classmethod
    def turned(cls, n_out: int, n_in: int, start: int = 0) -> Matrix:
        """Return the map stored as (in, out) from element `start` on, as GPT-2's Conv1D."""
        return cls(start, ((n_out, 1),), ((n_in, n_out),))

    @property
    def n_out(self) -> int:
        """How many output features there are."""
        return math.prod(count for count, _ in self.out)

    @property
    def n_in(self) -> int:
        """How many input features there are."""
        return math.prod(count for count, _ in self.inner)

    @property
    def is_plain(self) -> bool:
        """Whether the rows follow each other without a gap, so that rows can be streamed."""
        n_in = self.n_in
        return self == Matrix.plain(self.n_out, n_in, self.start) and self.start % n_in == 0

    @property
    def span(self) -> tuple[int, int]:
        """The first of the tensor's elements that the map has, and the one behind its last."""
        reach = sum((count - 1) * step for count, step in (*self.out, *self.inner))
        return self.start, self.start + reach + 1

    @property
    def transposed(self) -> Matrix:
        """The map with its input features for output features."""
        return Matrix(self.start, self.inner, self.out)

    def split(self, sizes: Sequence[int], repeats: int = 1) -> tuple[Matrix, ...]:
        """Return one map for each of `sizes`, which share the output features among them.

        The features run `repeats` times through a row of `sizes`: q, k, v of the first head, q, k,
        v of the second, ... The map is one along a single axis whose count is sum(sizes) * repeats.
        """
        ((count, step),) = self.out
        total = sum(sizes)
        if total * repeats != count:
            raise ValueError(f"{count} output features are not {repeats} times {list(sizes)}")
        parts, before = [], 0
        for size in sizes:
            axes = [(repeats, total * step), (size, step)]
            out = tuple(axis for axis in axes if axis[0] > 1) or ((1, step),)
            parts.append(Matrix(self.start + before * step, out, self.inner))
            before += size
        return tuple(parts)
