"""Weighted sums of changes, with or without an election of signs: what many methods have in common.

`task_arithmetic`, `ties`, `dare_*`, `della*` and `breadcrumbs*` differ in what `keep` leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Keep = Callable[[int, Tensor], Tensor]
"""Gives what is kept of the change of a model, by its number."""

_SMALLEST_DIVISOR = 1e-8


def added_changes(
    base: Tensor,
    models: Sequence[Tensor],
    weights: Sequence[float],
    keep: Keep,
    *,
    elect: bool,
    normalize: bool,
    scale: float,
) -> Tensor:
    """Return base + `scale` Σ w_i (what is kept of x_i - base), normalised and elected if asked."""
    changes = base.new_empty((len(models), *base.shape))
    for i, x in enumerate(models):
        changes[i] = keep(i, x - base)
    factors = torch.tensor(list(weights), dtype=base.dtype)
    factors = factors.reshape((-1,) + (1,) * base.dim())
    changes.mul_(factors)
    if elect:
        agree = of_elected_sign(changes)
        total = (changes * agree).sum(dim=0)
        divisor = (factors * agree).sum(dim=0)
        divisor[divisor == 0] = 1
    else:
        total = changes.sum(dim=0)
        divisor = factors.sum(dim=0)
        divisor[divisor.abs() < _SMALLEST_DIVISOR] = 1
    if normalize:
        total /= divisor
    if scale != 1:
        total *= scale
    return base + total


def of_elected_sign(changes: Tensor) -> Tensor:
    """Return, for changes (k, *shape), which have the sign of their sum; zeros never do."""
    elected = (changes.sum(dim=0) >= 0).to(changes.dtype) * 2 - 1
    return changes.sign() == elected
