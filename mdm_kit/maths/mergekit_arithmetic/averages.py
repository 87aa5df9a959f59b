"""Weighted sums of whole weights: `linear` and `passthrough`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def linear(models: Sequence[Tensor], weights: Sequence[float], *, normalize: bool) -> Tensor:
    """Return Σ w_i x_i, divided by Σ w_i if `normalize`; summed in float32, or float64 for that.

    The weights are rounded to the dtype of the sum.
    """
    first = models[0]
    wide = at_least_single(first.dtype)
    factors = torch.tensor([list(weights)], dtype=wide)
    ones = (1,) * (first.dim() + 1)
    total = torch.zeros((1, *first.shape), dtype=wide)
    for x, factor in zip(models, factors.unbind(1), strict=True):
        total.addcmul_(x.unsqueeze(0), factor.reshape(ones))
    if normalize:
        total.div_(factors.sum(dim=1).reshape(ones))
    return total.to(first.dtype).squeeze(0)


def scaled(model: Tensor, scale: float) -> Tensor:
    """Return the weights times `scale`."""
    return model * scale


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64, and float32 for every other dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
