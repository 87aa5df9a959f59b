"""What of a matrix is foreign to given directions, of its shorter side or of its longer one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mdm_kit.maths.changes import Lines
from mdm_kit.maths.strips import spans

Part = tuple[int, Tensor]
"""Where lines begin, and the lines (count, short) float64."""


def without_short(matrix: Lines, vectors: Tensor) -> Iterator[Part]:
    """Yield X (I - VᵀV) for the orthonormal rows of V (k, short)."""
    for start, count in spans(matrix.long):
        lines = matrix.lines(start, count)
        yield start, lines.sub_((lines @ vectors.mT) @ vectors)


def without_long(matrix: Lines, vectors: Tensor) -> Iterator[Part]:
    """Yield (I - U Uᵀ) X for the orthonormal columns of U (long, k)."""
    along = torch.zeros(vectors.shape[1], matrix.short, dtype=torch.float64)
    for start, count in spans(matrix.long):
        along.addmm_(vectors[start : start + count].mT, matrix.lines(start, count))
    for start, count in spans(matrix.long):
        yield start, matrix.lines(start, count).sub_(vectors[start : start + count] @ along)
