"""The factors of adapters' changes, read whole: they are thin."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mdm_kit.maths.low_rank import Factors
from mdm_kit.planner.nodes import Input, Product, Read
from mdm_kit.run.course import Borrow
from mdm_kit.sources.rows import numbers


def factors_of(inputs: Sequence[Input], shape: tuple[int, ...], borrow: Borrow) -> list[Factors]:
    """Return every input's change of a tensor of this shape, float64, scale · left in `left`.

    A change of rank 0 where an adapter leaves the tensor as it is, whatever its shape.
    """
    return [_factors(i, shape, borrow) for i in inputs if isinstance(i, Product)]


def _factors(product: Product, shape: tuple[int, ...], borrow: Borrow) -> Factors:
    if product.factors is None:
        rows, width = shape if len(shape) == 2 else (0, 0)
        none = torch.zeros(0, dtype=torch.float64)
        return Factors(none.view(rows, 0), none.view(0, width))
    left, right = (_matrix(read, borrow) for read in product.factors)
    if product.turned:
        left, right = left.mT, right.mT
    return Factors((product.scale * left).contiguous(), right.contiguous())


def _matrix(read: Read, borrow: Borrow) -> torch.Tensor:
    with borrow.of((read,), 0, read.info.n_elements) as inputs:
        held = numbers(inputs.array(0).data, read.info.dtype).reshape(read.info.shape)
        return torch.tensor(held, dtype=torch.float64)
