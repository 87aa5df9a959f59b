"""Linear maps inside a tensor whose change is a product of thin factors: their own factors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.maths.low_rank import Factors
from mdm_kit.maths.matrix import Axes, Matrix


@dataclass(frozen=True, slots=True)
class MapPlace:
    """Which rows and columns of a stored tensor (rows, columns) a linear map lies in.

    Output features are rows, or columns where it is `turned`.
    """

    rows: Tensor
    columns: Tensor
    turned: bool

    @classmethod
    def of(cls, matrix: Matrix, shape: tuple[int, ...]) -> MapPlace:
        """Find a map that takes some of the rows and some of the columns, all of both together."""
        width = shape[1]
        out, inner = _offsets(matrix.out), _offsets(matrix.inner)
        row, column = divmod(matrix.start, width)
        # Features in a row are columns; a single one says nothing of which its side runs along.
        turned = column + int(inner[-1]) >= width
        turned = turned or (len(inner) == 1 and column + int(out[-1]) < width)
        down, along = (inner, out) if turned else (out, inner)
        return cls(row + down // width, column + along, turned)

    def within(self, change: Factors) -> Factors:
        """Return the map (out, in) of a tensor's change."""
        left, right = change.left[self.rows], change.right[:, self.columns]
        return Factors(right.mT, left.mT) if self.turned else Factors(left, right)

    def spread(self, change: Factors, shape: tuple[int, ...]) -> Factors:
        """Return a tensor's change that is this map's, and zero elsewhere."""
        rank = change.rank
        left = change.left.new_zeros(shape[0], rank)
        right = change.left.new_zeros(rank, shape[1])
        down, along = change.left, change.right
        if self.turned:
            down, along = along.mT, down.mT
        left[self.rows], right[:, self.columns] = down, along
        return Factors(left, right)


def _offsets(axes: Axes) -> Tensor:
    """Return where each feature lies behind the first, outer axis first."""
    found = torch.zeros(1, dtype=torch.int64)
    for count, step in axes:
        found = (found[:, None] + torch.arange(count) * step).view(-1)
    return found
