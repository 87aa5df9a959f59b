"""Multi-SLERP: a weighted mean of several models on the sphere.

Directions are averaged in the plane that touches the sphere at their weighted mean, and brought
back to it; the length is the weighted mean of the lengths. With a base model the vectors are what
each model changed (C. Goddard 2025, goddard.blog/posts/multislerp-wow-what-a-cool-idea).

Where not to use: directions that cancel, as a change and its opposite with equal weights.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from mdm_kit.maths.spherical import F64s, length, norms
from mdm_kit.methods.contract import MethodParams, PerModel, per_model, rule_method, shared
from mdm_kit.methods.rules import Spanning, whole


class Params(MethodParams):
    """Parameters of `multislerp`."""

    weight: PerModel[float] = per_model(help="the model's share")
    normalize_weights: bool = shared(default=True, help="divide the weights by their sum")
    eps: float = shared(default=1e-8, minimum=0.0, help="added to lengths before dividing by them")

    def problem(self) -> str:
        """Say so where the weights cancel and there is nothing to divide by."""
        if self.normalize_weights and math.fsum(self.weight) == 0.0:
            return (
                f"the weights {list(self.weight)} sum to zero and cannot be normalised; "
                "change a weight or set normalize_weights: false"
            )
        return ""


@rule_method("multislerp", params=Params, base="optional", order_free=True, dialect=True)
def multislerp(p: Params, shape: tuple[int, ...]) -> Spanning:
    """Return the mean on the sphere; one model is itself."""
    total = math.fsum(p.weight) if p.normalize_weights else 1.0
    shares = np.array([w / total for w in p.weight])
    return Spanning(whole(shape), partial(_weights, shares, p.eps))


def _weights(shares: F64s, eps: float, gram: F64s) -> F64s:
    n, k = gram.shape[:2]
    if k == 1:
        return np.ones((n, 1))
    sizes = norms(gram)
    safe = sizes + eps
    units = np.where(safe > 0.0, shares / np.where(safe > 0.0, safe, 1.0), 0.0)
    mean_length = length(gram, units)
    balanced = (mean_length < eps)[:, 0] | (mean_length[:, 0] == 0.0)
    if k > 2 and bool(np.any(balanced & (sizes.max(axis=1) > 0.0))):
        raise ValueError(
            "the weighted directions of the models cancel, so they have no mean on the sphere; "
            "take other weights, or a method that adds them"
        )
    mean = units / np.where(balanced, 1.0, mean_length[:, 0])[:, None]
    dots = np.einsum("nij,nj->ni", gram, mean) / np.where(safe > 0.0, safe, 1.0)
    tangent = units - (dots @ shares)[:, None] * mean
    angle = length(gram, tangent) + eps
    sinc = np.where(angle > 0.0, np.sin(angle) / np.where(angle > 0.0, angle, 1.0), 1.0)
    found = (mean * np.cos(angle) + tangent * sinc) * (sizes @ shares)[:, None]
    return np.where(balanced[:, None], shares[None, :], found)
