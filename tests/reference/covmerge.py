"""covmerge from its definition, in dense float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def covmerge(deltas: Sequence[Matrix], weights: Sequence[float], ridge: float) -> Matrix:
    """Merge deltas (out, in); at least one with a weight is not zero.

    With a ridge by the normal equations. Without, C is never formed: with K the rows of all
    √w_i d_i / ‖d_i‖, M - A is the shortest solution of least squares in (M - A) Kᵀ.
    """
    live = [(d, w) for d, w in zip(deltas, weights, strict=True) if d.any()]
    anchor = sum(w * d for d, w in live)
    if ridge:
        grams = [w * (d.T @ d) / np.sum(d * d) for d, w in live]
        c = sum(grams)
        pull = sum((d - anchor) @ g for (d, _), g in zip(live, grams, strict=True))
        mu = ridge * np.trace(c) / len(c)
        return anchor + np.linalg.solve(c + mu * np.eye(len(c)), pull.T).T
    scaled = [np.sqrt(w) * d / np.linalg.norm(d) for d, w in live]
    k = np.vstack(scaled)
    misfits = np.hstack([(d - anchor) @ s.T for (d, _), s in zip(live, scaled, strict=True)])
    return anchor + (np.linalg.pinv(k, rcond=1e-7) @ misfits.T).T


def interference(merged: Matrix, deltas: Sequence[Matrix], weights: Sequence[float]) -> float:
    """Return Σ w_i ‖(M - d_i) d_iᵀ‖² / ‖d_i‖²."""
    return sum(
        w * np.sum(((merged - d) @ d.T) ** 2) / np.sum(d * d)
        for d, w in zip(deltas, weights, strict=True)
        if d.any()
    )
