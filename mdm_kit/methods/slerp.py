"""SLERP: a point of the arc between two models, tensor by tensor.

`t` = 0 gives the base, 1 the other model. A tensor is one vector; where the cosine of the two is
beyond 0.9995 the arc is so flat that the straight line is taken (Shoemake 1985, "Animating rotation
with quaternion curves").

Where not to use: with more than two models; where the lengths of weights carry meaning that the
arc's longer way would change.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mdm_kit.maths.spherical import F64s, arc, norms
from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Spanning, whole

STRAIGHT = 0.9995
SMALLEST_NORM = 1e-8
"""Below it a vector counts as one of length 1. Both as in mergekit."""


class Params(MethodParams):
    """Parameters of `slerp`."""

    t: float = shared(help="where on the arc: 0 is the base, 1 the other model")


@rule_method(
    "slerp",
    params=Params,
    base="first",
    max_models=1,
    order_free=True,
    dialect=True,
    undo=(),
)
def slerp(p: Params, shape: tuple[int, ...]) -> Spanning:
    """Return the point at `t` between the base and the other model."""
    return Spanning(whole(shape), partial(_weights, p.t))


def _weights(t: float, gram: F64s) -> F64s:
    sizes = norms(gram)
    sizes = np.where(sizes > SMALLEST_NORM, sizes, 1.0)
    cosine = np.clip(gram[:, 0, 1] / (sizes[:, 0] * sizes[:, 1]), -1.0, 1.0)
    return arc(cosine, t, np.abs(cosine) > STRAIGHT)
