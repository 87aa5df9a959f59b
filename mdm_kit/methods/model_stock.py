"""Model Stock: how far to go from the base to the average, read off the angle between models.

With N models at a mean angle θ around the base, t = N cos θ / (1 + (N - 1) cos θ) and the merge is
the base plus t times the mean change (Jang et al. 2024, arXiv:2403.19522, eq. 4). With
`filter_wise` every row (last axis) has its own t.

Where not to use: one model; models of different bases, whose angle says nothing.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from mdm_kit.maths.spherical import F64s, norms
from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Spanning, along, whole

SMALLEST_PRODUCT = 1e-6
"""Products of two lengths count as no smaller, as in mergekit."""
SINGULAR = 1e-6
"""Where 1 + (N - 1) cos θ is smaller there is no finite t, and the base stays."""


class Params(MethodParams):
    """Parameters of `model_stock`."""

    filter_wise: bool = shared(default=False, help="every row for itself, not the whole tensor")


@rule_method(
    "model_stock", params=Params, base="origin", min_models=2, order_free=True, dialect=True
)
def model_stock(p: Params, shape: tuple[int, ...]) -> Spanning:
    """Return t/N for each change."""
    return Spanning(along(shape, -1) if p.filter_wise else whole(shape), _weights)


def _weights(gram: F64s) -> F64s:
    n, k = gram.shape[:2]
    sizes = norms(gram)
    cosines = [
        np.clip(gram[:, i, j] / np.maximum(sizes[:, i] * sizes[:, j], SMALLEST_PRODUCT), -1.0, 1.0)
        for i, j in combinations(range(k), 2)
    ]
    cosine = np.mean(cosines, axis=0)
    divisor = 1.0 + (k - 1) * cosine
    singular = np.abs(divisor) < SINGULAR
    t = np.where(singular, 0.0, k * cosine / np.where(singular, 1.0, divisor))
    return np.broadcast_to((t / k)[:, None], (n, k)).copy()
