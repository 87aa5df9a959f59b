"""Karcher mean: the point of the sphere that is nearest to all models at once.

Directions are averaged by following the mean of the arcs to them until it is shorter than `tol`,
`max_iter` times at most; the length is the mean of the lengths. All models count alike, a base
model that is not among them included (Karcher 1977; for merging: arXiv:2603.04972).

Where not to use: models that should have different weights; opposite directions, whose mean is not
one point.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mdm_kit.maths.spherical import F64s, length, norms
from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Spanning, whole


class Params(MethodParams):
    """Parameters of `karcher`."""

    max_iter: float = shared(default=10.0, minimum=0.0, maximum=10_000.0, help="steps at most")
    tol: float = shared(
        default=1e-5, minimum=0.0, help="arcs, and lengths of vectors, up to this count as none"
    )

    def problem(self) -> str:
        """Say so where the number of steps is none."""
        if self.max_iter != int(self.max_iter):
            return f"max_iter {self.max_iter:g} should be a whole number"
        return ""


@rule_method("karcher", params=Params, base="counted", order_free=True, dialect=True)
def karcher(p: Params, shape: tuple[int, ...]) -> Spanning:
    """Return the Karcher mean; one model is itself."""
    return Spanning(whole(shape), partial(_weights, int(p.max_iter), p.tol))


def _weights(max_iter: int, tol: float, gram: F64s) -> F64s:
    return np.stack([_mean(max_iter, tol, g[None]) for g in gram])


def _mean(max_iter: int, tol: float, gram: F64s) -> F64s:
    """Return the factors (k,) of one set of vectors with inner products (1, k, k)."""
    k = gram.shape[1]
    sizes = norms(gram)[0]
    live = sizes > tol
    if k == 1 or not live.any():
        return np.full(k, 1.0 / k)
    safe = np.where(live, sizes, 1.0)
    units = gram / (safe[:, None] * safe[None, :])  # cosines; rows of what is not live are unused
    shares = live / live.sum()
    mean = shares.copy()  # factors of the unit vectors
    size = length(units, mean[None])[0, 0]
    mean = mean / size if size >= tol else np.eye(k)[int(np.argmax(live))]
    for _ in range(max_iter):
        dots = np.clip(units[0] @ mean, -1.0, 1.0)
        angles = np.arccos(dots)
        pulls = live & (angles >= tol)
        stretch = np.where(pulls, angles / np.where(pulls, np.sin(angles), 1.0), 0.0) * shares
        tangent = stretch - (stretch @ dots) * mean
        step = length(units, tangent[None])[0, 0]
        if step < tol or step == 0.0:
            break
        mean = np.cos(step) * mean + np.sin(step) / step * tangent
        size = length(units, mean[None])[0, 0]
        mean = mean / size if size > tol else mean
    found: F64s = mean / safe * sizes.mean()
    return found
