"""Passthrough: one model's weights as they are, or scaled.

W, or `scale`·W where a scale is given. Useful to convert a dtype, to reshard, and to scale chosen
tensors by name.

Where not to use: with more than one model; that is a merge and needs a method that merges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mdm_kit.methods.contract import MethodParams, PerModel, method, per_model

if TYPE_CHECKING:
    from torch import Tensor


class Params(MethodParams):
    """Parameters of `passthrough`."""

    scale: PerModel[float | None] = per_model(default=None, help="multiplies the weights")


@method(
    "passthrough",
    params=Params,
    space="weight",
    tiles="elementwise",
    max_models=1,
    order_free=True,
    dialect=True,
)
def passthrough(weights: Sequence[Tensor], p: Params) -> Tensor:
    """One weight (*S,) -> the same, or a new one (*S,) scaled."""
    (scale,) = p.scale
    return weights[0] if scale is None else weights[0] * scale
