"""MagMax: each element changes as in the model that changes it most.

d = the d_i of largest magnitude, element by element, times `lambda`; of equal magnitudes the later
model's (Marczak et al. 2024, arXiv:2407.06322). Made for models that were tuned one after another;
the factor is tuned on held-out data there.

Where not to use: fine-tunes whose changes differ in size for other reasons than their importance
(a longer training, a larger learning rate): the larger one takes nearly everything.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Outdoing


class Params(MethodParams):
    """Parameters of `magmax`."""

    lambda_: float = shared(default=0.5, help="multiplies the whole merged delta")


@rule_method("magmax", params=Params, base="origin", min_models=2, order_free=False)
def magmax(p: Params, shape: tuple[int, ...]) -> Outdoing:
    """Take the largest change of each element."""
    return Outdoing(p.lambda_)
