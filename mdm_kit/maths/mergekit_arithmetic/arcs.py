"""Points of the arc between two tensors: `slerp` and `nuslerp`."""

from __future__ import annotations

import torch
from torch import Tensor

from mdm_kit.maths.mergekit_arithmetic.averages import at_least_single

_PIECE = 1 << 20
"""Elements whose norms and products are summed at a time; the sums of pieces are summed again."""
_STRAIGHT = 0.9995
_SMALLEST = 1e-8
_SMALLEST_CLAMPED = 1e-7
_COLINEAR = 1e-8**2


def slerp(base: Tensor, model: Tensor, t: float) -> Tensor:
    """Return the point at `t`, each tensor as one vector, in float32, or float64 for that."""
    wide = at_least_single(base.dtype)
    a, b = base.reshape(1, -1), model.reshape(1, -1)
    pieces = [slice(i, i + _PIECE) for i in range(0, a.shape[1], _PIECE)]
    size_a, size_b = _size(a, pieces, wide), _size(b, pieces, wide)
    products = []
    for piece in pieces:
        u = a[:, piece].to(wide) / size_a
        v = b[:, piece].to(wide) / size_b
        products.append((u * v).sum(dim=1, keepdim=True))
    cosine = torch.stack(products).sum(dim=0).clamp(-1, 1)
    share = torch.tensor([t], dtype=wide).reshape(-1, 1)
    straight = cosine.abs() > _STRAIGHT
    angle = torch.acos(torch.where(straight, 0, cosine))
    sine = torch.sin(angle)
    of_a = torch.where(straight, 1 - share, torch.sin((1 - share) * angle) / sine)
    of_b = torch.where(straight, share, torch.sin(share * angle) / sine)
    out = torch.empty_like(a)
    for piece in pieces:
        out[:, piece] = of_a * a[:, piece].to(wide) + of_b * b[:, piece].to(wide)
    return out.reshape(base.shape)


def _size(vector: Tensor, pieces: list[slice], wide: torch.dtype) -> Tensor:
    """Return the norm of a (1, n) vector as (1, 1), 1 where there is next to none."""
    parts = [
        torch.linalg.vector_norm(vector[:, piece].to(wide), dim=1, keepdim=True) for piece in pieces
    ]
    size = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return torch.where(size > _SMALLEST, size, 1)


def nuslerp(
    models: tuple[Tensor, Tensor], base: Tensor | None, t: float, *, flatten: bool, columns: bool
) -> Tensor:
    """Return the point at `t` between two tensors, or between their changes added to a base.

    Vectors are the whole tensors if `flatten`, else lie along the first axis if `columns`, else
    along the last.
    """
    first, second = models
    if base is None:
        return _arc(first, second, t, flatten=flatten, columns=columns)
    return base + _arc(first - base, second - base, t, flatten=flatten, columns=columns)


def _arc(first: Tensor, second: Tensor, t: float, *, flatten: bool, columns: bool) -> Tensor:
    shape = first.shape
    turned = columns and not flatten
    if flatten:
        first, second = first.reshape(-1), second.reshape(-1)
    elif turned:
        first, second = first.transpose(0, -1), second.transpose(0, -1)
    cosine = (_unit(first) * _unit(second)).sum(dim=-1, keepdim=True).clamp(-1, 1)
    colinear = (1 - cosine.square()) <= _COLINEAR
    angle = torch.acos(torch.where(colinear, 0, cosine))
    sine = torch.sin(angle)
    curved = (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / sine
    found = torch.where(colinear, (1 - t) * first + t * second, curved)
    return (found.transpose(0, -1) if turned else found).reshape(shape)


def _unit(vectors: Tensor) -> Tensor:
    size: Tensor = torch.norm(vectors, dim=-1, keepdim=True)
    return vectors / size.clamp(min=_SMALLEST_CLAMPED)
