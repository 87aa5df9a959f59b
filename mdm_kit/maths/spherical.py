"""Means on the sphere, as factors of the vectors they are made of.

Every one of them lies in the span of its vectors, so that their inner products say all: nothing
here sees a vector. Arrays have one row for each set of k vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64s = NDArray[np.float64]


def norms(gram: F64s) -> F64s:
    """Return the lengths (n, k) of vectors with inner products (n, k, k)."""
    diagonal: F64s = np.diagonal(gram, axis1=1, axis2=2)
    return np.sqrt(np.maximum(diagonal, 0.0))


def length(gram: F64s, factors: F64s) -> F64s:
    """Return the lengths (n, 1) of the sums of vectors with these factors (n, k)."""
    squares: F64s = np.einsum("ni,nij,nj->n", factors, gram, factors)
    return np.sqrt(np.maximum(squares, 0.0))[:, None]


def arc(cosine: F64s, t: float, straight: NDArray[np.bool_]) -> F64s:
    """Return the factors (n, 2) of the point at `t` of the arc between two vectors.

    Their angles have `cosine` (n,); the point of the straight line where `straight` says so.
    """
    theta = np.arccos(np.where(straight, 0.0, np.clip(cosine, -1.0, 1.0)))
    sine = np.sin(theta)
    first = np.where(straight, 1.0 - t, np.sin((1.0 - t) * theta) / sine)
    second = np.where(straight, t, np.sin(t * theta) / sine)
    return np.stack([first, second], axis=1)
