"""NuSLERP: a point of the arc between two models, or between what they changed.

The place on the arc is w₂/(w₁ + w₂), so the weights read as those of an average. With a base model
the arc runs between the two task vectors, else between the weights. A tensor is one vector, or with
`nuslerp_flatten: false` each row (last axis) is one, or each column (first axis) with
`nuslerp_row_wise: true`, whose name comes from mergekit (Shoemake 1985, for the arc).

Where not to use: with more than two models; task vectors that point opposite ways, between which
every arc is as short as another.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mdm_kit.maths.spherical import F64s, arc, norms
from mdm_kit.methods.contract import MethodParams, PerModel, per_model, rule_method, shared
from mdm_kit.methods.rules import Spanning, along, whole

SMALLEST_NORM = 1e-7
SMALLEST_SUM = 1e-6
"""Weights whose sum is smaller mean the middle. Both as in mergekit."""
STRAIGHT = 1e-16
"""Up to this 1 - cos² the straight line is taken."""


class Params(MethodParams):
    """Parameters of `nuslerp`."""

    weight: PerModel[float] = per_model(help="the model's share")
    nuslerp_flatten: bool = shared(default=True, help="a tensor is one vector")
    nuslerp_row_wise: bool = shared(default=False, help="vectors lie along the first axis")


@rule_method(
    "nuslerp",
    params=Params,
    base="optional",
    min_models=2,
    max_models=2,
    order_free=True,
    dialect=True,
    undo=(),
)
def nuslerp(p: Params, shape: tuple[int, ...]) -> Spanning:
    """Return the point of the arc that the weights say."""
    first, second = p.weight
    total = first + second
    t = 0.5 if abs(total) < SMALLEST_SUM else second / total
    vectors = along(shape, 0 if p.nuslerp_row_wise else -1)
    return Spanning(whole(shape) if p.nuslerp_flatten else vectors, partial(_weights, t))


def _weights(t: float, gram: F64s) -> F64s:
    sizes = np.maximum(norms(gram), SMALLEST_NORM)
    cosine = np.clip(gram[:, 0, 1] / (sizes[:, 0] * sizes[:, 1]), -1.0, 1.0)
    return arc(cosine, t, 1.0 - cosine**2 <= STRAIGHT)
