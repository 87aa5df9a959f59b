"""The sum every linear method ends in, with its order and its roundings fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return Σ w_i x_i for k >= 1 tensors (*S,) of one dtype and device, added left to right.

    Each product is rounded before it is added: a fused multiply-add would give other bits on
    another instruction set.
    """
    total = tensors[0] * weights[0]
    for x, w in zip(tensors[1:], weights[1:], strict=True):
        total += x * w
    return total
