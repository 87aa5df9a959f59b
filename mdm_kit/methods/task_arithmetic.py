"""Task arithmetic: the base plus a weighted sum of what each model changed.

W_base + λ Σ w_i (W_i - W_base), the sum divided by Σ w_i where `normalize` is on (Ilharco et al.
2023, arXiv:2212.04089, §2). A negative weight takes a skill away.

Where not to use: models with different bases; many models at weight 1.0, whose changes add up
until the result forgets the base (try 0.3 to 0.5 each).
"""

from __future__ import annotations

import math

from mdm_kit.methods.contract import MethodParams, PerModel, fold_method, per_model, shared

SMALLEST_DIVISOR = 1e-8
"""Weights whose sum is smaller are not normalised, as in mergekit."""


class Params(MethodParams):
    """Parameters of `task_arithmetic`."""

    weight: PerModel[float] = per_model(help="how much of the model's change is added")
    normalize: bool = shared(default=False, help="divide the sum by the sum of the weights")
    lambda_: float = shared(default=1.0, help="multiplies the whole merged change")
    density: PerModel[float] = per_model(
        default=1.0, minimum=0.0, maximum=1.0, help="unused", inert="nothing is dropped here"
    )
    rescale: bool = shared(default=False, help="unused", inert="nothing is dropped here")


@fold_method(
    "task_arithmetic",
    params=Params,
    base="origin",
    order_free=True,
    dialect=True,
    undo=("rebuild", "exact", "subtract"),
)
def task_arithmetic(p: Params) -> list[float]:
    """Return what each model's delta is multiplied by, k numbers."""
    total = math.fsum(p.weight) if p.normalize else 1.0
    divisor = total if abs(total) >= SMALLEST_DIVISOR else 1.0
    return [p.lambda_ * w / divisor for w in p.weight]
