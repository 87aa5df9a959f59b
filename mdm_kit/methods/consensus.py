"""Consensus Task Arithmetic: a sum of changes, without the elements that one model alone wants.

D = Σ w_i d_i. A model needs an element where |d_i| is `tall` times |D - d_i| at least (its TALL
mask); what fewer than `agree` models need goes back to the base, the rest of D is added times
`lambda` (Wang et al. 2024, arXiv:2405.07813). The paper has `tall` between 0.2 and 0.6, all weights
1, and tunes `lambda` on held-out data; 0.3 is what task arithmetic is used with.

Where not to use: two models with little in common, of which hardly an element is left; many models
merged one after another, where the sum drowns each of them.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, PerModel, per_model, rule_method, shared
from mdm_kit.methods.rules import Agreeing


class Params(MethodParams):
    """Parameters of `consensus`."""

    weight: PerModel[float] = per_model(default=1.0, help="multiplies the model's delta")
    tall: float = shared(
        default=0.4, minimum=0.0, help="how large a change is beside the others' to be needed"
    )
    agree: float = shared(default=2.0, minimum=1.0, help="models that must need an element")
    lambda_: float = shared(default=0.3, help="multiplies the whole merged delta")

    def problem(self) -> str:
        """Say so where no element could be agreed on."""
        if self.agree != int(self.agree):
            return f"agree {self.agree:g} should be a whole number"
        if self.agree > len(self.weight):
            n = len(self.weight)
            return f"agree {self.agree:g} leaves nothing, for there are {n} models; lower it"
        return ""


@rule_method("consensus", params=Params, base="origin", min_models=2, order_free=True)
def consensus(p: Params, shape: tuple[int, ...]) -> Agreeing:
    """Add the changes up where enough models need the sum."""
    return Agreeing(p.weight, p.tall, p.agree, p.lambda_)
