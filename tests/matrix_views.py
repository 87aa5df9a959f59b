"""A matrix's elements in a tensor, by numpy's own strides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mdm_kit.maths.matrix import Matrix


def view(matrix: Matrix, flat: NDArray[Any]) -> NDArray[Any]:
    """Return a writable view of a flat array, one axis for each of the matrix's."""
    axes = (*matrix.out, *matrix.inner)
    last = matrix.start + sum((count - 1) * step for count, step in axes)
    assert 0 <= matrix.start <= last < len(flat)
    strides = [step * flat.itemsize for _, step in axes]
    return as_strided(flat[matrix.start :], [count for count, _ in axes], strides)


def dense(matrix: Matrix, flat: NDArray[Any]) -> NDArray[Any]:
    """Return the matrix itself, (out, in)."""
    return view(matrix, flat).reshape(matrix.n_out, matrix.n_in)


def uses(matrices: tuple[Matrix, ...], n: int) -> NDArray[np.int64]:
    """Return how many of the matrices each of a tensor's `n` elements is in."""
    counts = np.zeros(n, np.int64)
    for matrix in matrices:
        seen = view(matrix, counts)
        seen += 1
    return counts
