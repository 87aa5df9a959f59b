"""What is kept of one change: by rank, by chance, by a chance that grows with the rank.

A rescaled change is multiplied by its sum of magnitudes over that of what is kept. What is dropped
is multiplied by zero, so that a negative zero is left of a negative number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Numbers = Callable[[], Tensor]
"""Gives the random numbers of a change, in [0, 1) and of its shape."""

_SMALLEST_SUM = 1e-7


def largest(change: Tensor, density: float, *, rescale: bool) -> Tensor:
    """Keep the share `density` of largest magnitude, and at least one element if there is any."""
    if density >= 1:
        return change
    if density <= 0:
        return torch.zeros_like(change)
    return _stretched(change, _ranked(change, 0, max(1, int(density * change.numel()))), rescale)


def middle(change: Tensor, density: float, gamma: float, *, rescale: bool) -> Tensor:
    """Keep the share `density` behind the share `gamma` of largest magnitude.

    Where the two do not fit into the change, fewer of the largest are dropped.
    """
    if density >= 1:
        return change
    n = change.numel()
    kept = int(density * n)
    first = min(int(gamma * n), n - kept)
    return _stretched(change, _ranked(change, first, first + kept), rescale)


def by_chance(change: Tensor, density: float, numbers: Numbers, *, rescale: bool) -> Tensor:
    """Keep each element with probability `density`, rounded to the dtype chances have."""
    if density >= 1:
        return change
    wide = chance_dtype(change.dtype)
    chance = torch.tensor(density, dtype=wide).item()
    return _stretched(change.to(wide), (numbers() < chance).to(wide), rescale).to(change.dtype)


def by_ranked_chance(
    change: Tensor, density: float, epsilon: float, numbers: Numbers, *, rescale: bool
) -> Tensor:
    """Keep elements with a probability from `density` - `epsilon` to `density` + `epsilon`.

    It grows with the rank by magnitude in a vector along the second axis; a tensor of one axis is
    one vector. The mean of both where a vector has one element, where mergekit gives up.
    """
    if density >= 1:
        return change
    if density <= 0:
        return torch.zeros_like(change)
    wide = chance_dtype(change.dtype)
    rows = change.reshape(1, -1) if change.dim() < 2 else change
    # Of equal magnitudes the lower index ranks higher, so they are sorted from the far end.
    order = rows.abs().flip(1).argsort(dim=1, stable=True)
    ranks = order.argsort(dim=1).flip(1).to(wide) + 1
    low, high = ranks.amin(dim=1, keepdim=True), ranks.amax(dim=1, keepdim=True)
    place = ((ranks - low) / (high - low)).clamp(0, 1)
    place = torch.where(high > low, place, 0.5)
    chance = (density - epsilon) + place * 2 * epsilon
    mask = (numbers().reshape(rows.shape) < chance.to(torch.float64)).to(wide)
    return _stretched(rows.to(wide), mask, rescale).to(change.dtype).reshape(change.shape)


def chance_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of chances and of what is kept by them: float32 for all but bfloat16."""
    return dtype if dtype == torch.bfloat16 else torch.float32


def first_by_size(sizes: Tensor) -> Tensor:
    """Return the indices of flat sizes, largest first; of equal ones the lowest index first."""
    return torch.argsort(sizes, descending=True, stable=True)


def _ranked(change: Tensor, first: int, last: int) -> Tensor:
    """Return 1 for the magnitudes of rank `first` up to, but without, `last`, as float32 sees them.

    Rank 0 is the largest.
    """
    order = first_by_size(change.abs().reshape(-1).float())
    mask = torch.zeros(change.numel(), dtype=change.dtype)
    mask[order[first:last]] = 1
    return mask.reshape(change.shape)


def _stretched(change: Tensor, mask: Tensor, rescale: bool) -> Tensor:
    kept = change * mask
    if not rescale:
        return kept
    before, after = change.abs().sum(), kept.abs().sum()
    if before < _SMALLEST_SUM or after < _SMALLEST_SUM:
        return kept
    return kept * (before / after)
