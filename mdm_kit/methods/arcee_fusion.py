"""Arcee Fusion: take from a second model only the changes that stand out in importance.

The importance of an element is its change times the divergence of its row, Σ p log(p/q) between the
softmax of the model's row and of the base's. Where it is at least median + 1.5 (upper - lower
quartile) of the tensor, the model's weight is taken, elsewhere the base's stays. Quartiles are
exact for tensors of any size.

Where not to use: to add skills evenly, since most changes are dropped; with more than one model
beside the base.
"""

from __future__ import annotations

from mdm_kit.methods.contract import NoParams, rule_method
from mdm_kit.methods.rules import Masking, Outstanding, along


@rule_method(
    "arcee_fusion",
    params=NoParams,
    base="origin",
    max_models=1,
    order_free=True,
    dialect=True,
    undo=(),
)
def arcee_fusion(p: NoParams, shape: tuple[int, ...]) -> Masking:
    """Keep the one model's outstanding changes."""
    return Masking(keeps=(Outstanding(along(shape, -1)),), weights=(1.0,))
