"""Changes joined by how many models make them, or by size: `ram`, `ramplus_tl`, `nearswap`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALLEST_STEP = 1e-6


def ram(base: Tensor, models: Sequence[Tensor], epsilon: float) -> Tensor:
    """Return the base with changes of one model whole, and of several as their mean."""
    return _joined(base, models, epsilon, None)


def ramplus(
    base: Tensor, models: Sequence[Tensor], epsilon: float, r: float, alpha: float
) -> Tensor:
    """Return what `ram` does, with a model's own changes stronger the more of them others share.

    At least float32, which the strengths are.
    """
    return _joined(base, models, epsilon, (r, alpha))


def _joined(
    base: Tensor, models: Sequence[Tensor], epsilon: float, growth: tuple[float, float] | None
) -> Tensor:
    changes = torch.stack([x - base for x in models]).view(len(models), -1)
    made = changes.abs() > epsilon
    count = made.sum(dim=0, keepdim=True)
    shared, alone = count > 1, count == 1
    changes = changes * made
    own = changes * alone
    if growth is not None:
        r, alpha = growth
        overlap = (made & shared).sum(dim=1) / (made & alone).sum(dim=1).clamp(min=epsilon)
        own = own * (1 + r * overlap.clamp(min=0, max=alpha)).unsqueeze(-1)
    total = (own + changes * shared / count.clamp(min=1)).sum(dim=0, keepdim=True)
    return base + total.reshape_as(base)


def nearswap(base: Tensor, model: Tensor, t: float) -> Tensor:
    """Return the base moved to the model by the share `t` over their distance, at most whole."""
    share = (t / torch.abs(base - model).clamp(min=_SMALLEST_STEP)).clamp(min=0, max=1)
    return share * model + (1 - share) * base
