"""Changes chosen by what they are beside others: `sce` and `arcee_fusion`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdm_kit.maths.mergekit_arithmetic.changes import of_elected_sign
from mdm_kit.maths.mergekit_arithmetic.keeping import first_by_size

_SMALLEST = 1e-6
_SOFTMAX_FLOOR = 1e-8


def sce(base: Tensor, models: Sequence[Tensor], share: float) -> Tensor:
    """Return base + the mean, by energy, of changes of the elected sign where they vary most."""
    changes = torch.stack([x - base for x in models])
    if share < 1:
        changes = changes * _most_spread(changes, share).unsqueeze(0)
    agree = of_elected_sign(changes)
    factors = _energies(changes).reshape((-1,) + (1,) * base.dim()) * agree
    total = (changes * factors).sum(dim=0)
    return base + total / torch.sum(factors, dim=0).clamp(min=_SMALLEST)


def _most_spread(changes: Tensor, share: float) -> Tensor:
    spread = torch.var(changes, dim=0, unbiased=False)
    count = int(torch.count_nonzero(spread) * share) if share > 0 else 0
    mask = torch.zeros_like(spread)
    mask.view(-1)[first_by_size(spread.abs().view(-1))[:count]] = 1
    return mask


def _energies(changes: Tensor) -> Tensor:
    found = changes.square().reshape(len(changes), -1).mean(dim=1)
    total = torch.sum(found).item()
    return torch.ones_like(found) / len(found) if abs(total) < _SMALLEST else found / total


def arcee_fusion(base: Tensor, model: Tensor) -> Tensor:
    """Return the base with the changes that are far above the others in importance.

    At least float32: the mask is. The quartiles are those of all elements, however many.
    """
    importance = _importance(model, base)
    ordered = torch.sort(importance.reshape(-1)).values
    low, half, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    return base + (model - base) * (importance >= half + 1.5 * (high - low)).float()


def _importance(model: Tensor, base: Tensor) -> Tensor:
    size = (model - base).abs()
    p = torch.softmax(model, dim=-1) + _SOFTMAX_FLOOR
    q = torch.softmax(base, dim=-1) + _SOFTMAX_FLOOR
    return size * torch.sum(p * torch.log(p / q), dim=-1, keepdim=True)
