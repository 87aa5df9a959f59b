"""Passthrough: one model's weights as they are, or scaled.

W, or `scale`·W where a scale is given. Useful to convert a dtype, to reshard, and to scale chosen
tensors by name.

Where not to use: with more than one model; that is a merge and needs a method that merges.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, PerModel, fold_method, per_model


class Params(MethodParams):
    """Parameters of `passthrough`."""

    scale: PerModel[float] = per_model(default=1.0, help="multiplies the weights")


@fold_method(
    "passthrough",
    params=Params,
    base="ignored",
    max_models=1,
    order_free=True,
    dialect=True,
    undo=(),
)
def passthrough(p: Params) -> list[float]:
    """Return the one model's factor."""
    return list(p.scale)
