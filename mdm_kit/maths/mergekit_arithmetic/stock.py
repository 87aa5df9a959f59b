"""How far from the base to the models' average: `model_stock`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

_SMALLEST_PRODUCT = 1e-6
_SINGULAR = 1e-6


def model_stock(base: Tensor, models: Sequence[Tensor], *, rows: bool) -> Tensor:
    """Return the point between base and average that the models' mean angle says, by row if asked.

    The base where there is none.
    """
    if not rows:
        found = _by_last_axis(base.reshape(-1), [x.reshape(-1) for x in models])
        return found.reshape(base.shape)
    if base.dim() == 1:
        found = _by_last_axis(base.unsqueeze(0), [x.unsqueeze(0) for x in models])
        return found.reshape(base.shape)
    return _by_last_axis(base, models).reshape(base.shape)


def _by_last_axis(base: Tensor, models: Sequence[Tensor]) -> Tensor:
    changes = [x - base for x in models]
    cosines = []
    for a, b in combinations(changes, 2):
        lengths = torch.norm(a, dim=-1) * torch.norm(b, dim=-1)
        cosines.append(((a * b).sum(dim=-1) / lengths.clamp(min=_SMALLEST_PRODUCT)).clamp(-1, 1))
    cosine = torch.stack(cosines).mean(dim=0).unsqueeze(-1)
    k = len(models)
    divisor = 1 + (k - 1) * cosine
    singular = divisor.abs() < _SINGULAR
    safe = torch.where(singular, torch.ones_like(divisor), divisor)
    t = torch.where(singular, torch.zeros_like(cosine), k * cosine / safe)
    average = sum(models, start=torch.zeros_like(base)) / k
    return t * average + (1 - t) * base
