"""Linear: the weighted average of the models' weights.

Σ w_i W_i, divided by Σ w_i unless `normalize` is off. Known as model soups (Wortsman et al. 2022,
arXiv:2203.05482) and as checkpoint averaging.

Where not to use: models that do not descend from one base; their weights are not aligned and the
average is noise.
"""

from __future__ import annotations

import math

from mdm_kit.methods.contract import MethodParams, PerModel, fold_method, per_model, shared


class Params(MethodParams):
    """Parameters of `linear`."""

    weight: PerModel[float] = per_model(help="the model's share")
    normalize: bool = shared(default=True, help="divide by the sum of the weights")

    def problem(self) -> str:
        """Say so where the weights cancel and there is nothing to divide by."""
        if self.normalize and math.fsum(self.weight) == 0.0:
            return (
                f"the weights {list(self.weight)} sum to zero, so the average is not defined; "
                "change a weight or set normalize: false"
            )
        return ""


@fold_method("linear", params=Params, base="ignored", order_free=True, dialect=True)
def linear(p: Params) -> list[float]:
    """Return each model's share, k numbers."""
    total = math.fsum(p.weight) if p.normalize else 1.0
    return [w / total for w in p.weight]
