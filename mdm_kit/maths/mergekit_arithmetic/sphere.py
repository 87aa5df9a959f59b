"""Means on the sphere: `multislerp` and `karcher`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdm_kit.maths.mergekit_arithmetic.averages import at_least_single


def multislerp(
    models: Sequence[Tensor],
    base: Tensor | None,
    weights: Sequence[float],
    eps: float,
    *,
    normalize: bool,
) -> Tensor:
    """Return the weighted mean on the sphere, of the changes where there is a base.

    Raises `ValueError` in words where more than two directions cancel. One model is itself.
    """
    if len(models) == 1:
        return models[0]
    stack = torch.stack(list(models))
    if base is not None:
        stack -= base
    shape = stack.shape[1:]
    shares = torch.tensor(list(weights), dtype=stack.dtype)
    if normalize:
        shares = shares / shares.sum()
    vectors = stack.view(len(models), -1)
    sizes: Tensor = torch.norm(vectors, dim=-1, keepdim=True)
    units = vectors / (sizes + eps)
    mean = (units * shares.view(-1, 1)).sum(0)
    length: Tensor = torch.norm(mean)
    if length < eps:
        return _on_the_line(stack, base, shares)
    mean = mean / length
    along = (units * mean).sum(-1, keepdim=True)
    tangent = ((units - along * mean) * shares.view(-1, 1)).sum(0)
    angle: Tensor = torch.norm(tangent) + eps
    found = mean * torch.cos(angle) + tangent * (torch.sin(angle) / angle)
    found = (found * (sizes.squeeze(-1) * shares).sum()).view(shape)
    return found if base is None else found + base


def _on_the_line(stack: Tensor, base: Tensor | None, shares: Tensor) -> Tensor:
    if len(stack) > 2:
        raise ValueError(
            "the weighted directions of the models cancel, so they have no mean on the sphere; "
            "take other weights, or a method that adds them"
        )
    found = stack[0] * shares[0] + stack[1] * shares[1]
    return found if base is None else found + base


def karcher(models: Sequence[Tensor], max_iter: int, tol: float) -> Tensor:
    """Return the Karcher mean; lengths are float32, or float64 for that, directions are not."""
    if len(models) == 1:
        return models[0]
    sizes = [_size(x) for x in models]
    live = [i for i, size in enumerate(sizes) if size.item() > tol]
    if not live:
        return sum((x * 0 for x in models), start=torch.zeros_like(models[0]))
    units = [(models[i] / sizes[i]).to(models[i].dtype) for i in live]
    # Shares are found as mergekit finds them, whose rounding they then have.
    share = 1.0 / len(models)
    shares = [share / sum([share] * len(live))] * len(live)
    mean = torch.zeros_like(units[0])
    for s, unit in zip(shares, units, strict=True):
        mean += s * unit
    length = _size(mean)
    mean = units[0].clone() if length.item() < tol else (mean / length).to(mean.dtype)
    for _ in range(max_iter):
        tangent = _tangent(mean, units, shares, tol)
        angle = _size(tangent)
        if angle.item() < tol:
            break
        step = torch.cos(angle) * mean + torch.sin(angle) * (tangent / angle)
        mean = step.to(mean.dtype)
        length = _size(mean)
        if length.item() > tol:
            mean = (mean / length).to(mean.dtype)
    scale = sum((share * size for size in sizes), start=torch.zeros_like(sizes[0]))
    return scale * mean


def _size(tensor: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(tensor.to(at_least_single(tensor.dtype)))
    return size


def _tangent(mean: Tensor, units: Sequence[Tensor], shares: Sequence[float], tol: float) -> Tensor:
    """Return the mean of the arcs to the directions; those up to `tol` count as none."""
    total = torch.zeros_like(mean)
    for share, unit in zip(shares, units, strict=True):
        cosine = torch.clamp(torch.dot(mean.flatten(), unit.flatten()), -1.0, 1.0)
        angle = torch.arccos(cosine)
        if angle.item() < tol:
            continue
        total += share * (angle / torch.sin(angle)) * (unit - cosine * mean)
    return total
