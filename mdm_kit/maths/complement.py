"""What of a matrix is foreign to given directions, of its shorter side or of its longer one.

`squares` (k,), where there are any, grow by the squared norm of what the matrix has along each.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mdm_kit.maths.changes import Lines
from mdm_kit.maths.strips import spans

Part = tuple[int, Tensor]
"""Where lines begin, and the lines (count, short) float64."""


def without_short(matrix: Lines, vectors: Tensor, squares: Tensor | None = None) -> Iterator[Part]:
    """Yield X (I - VᵀV) for the orthonormal rows of V (k, short)."""
    for start, count in spans(matrix.long):
        lines = matrix.lines(start, count)
        along = lines @ vectors.mT
        if squares is not None:
            squares += along.square().sum(0)
        yield start, lines.sub_(along @ vectors)


def without_long(matrix: Lines, vectors: Tensor, squares: Tensor | None = None) -> Iterator[Part]:
    """Yield (I - U Uᵀ) X for the orthonormal columns of U (long, k)."""
    along = torch.zeros(vectors.shape[1], matrix.short, dtype=torch.float64)
    for start, count in spans(matrix.long):
        along.addmm_(vectors[start : start + count].mT, matrix.lines(start, count))
    if squares is not None:
        squares += along.square().sum(1)
    for start, count in spans(matrix.long):
        yield start, matrix.lines(start, count).sub_(vectors[start : start + count] @ along)
