"""Dense float64 formulas, straight from the definitions; slow and obvious on purpose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def linear(weights: Sequence[Tensor], shares: Sequence[float], *, normalize: bool) -> Tensor:
    total = sum(shares) if normalize else 1.0
    return (
        sum((s * w.double() for s, w in zip(shares, weights, strict=True)), torch.zeros(())) / total
    )


def task_arithmetic(
    base: Tensor,
    weights: Sequence[Tensor],
    shares: Sequence[float],
    *,
    lam: float = 1.0,
    normalize: bool = False,
) -> Tensor:
    total = sum(shares) if normalize else 1.0
    deltas = [w.double() - base.double() for w in weights]
    return base.double() + lam * sum(s * d for s, d in zip(shares, deltas, strict=True)) / total


def step(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance between neighbouring numbers of `dtype` around each |x|, in float64."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(x.double().abs())
    spacing = torch.exp2(exponent.double() - 1) * info.eps
    return spacing.clamp(min=info.smallest_normal * info.eps)


def assert_accurate(got: Tensor, want: Tensor, change: Tensor, spread: Tensor) -> None:
    """The accuracy asked of a merge.

    `want` is the float64 result, `change` what it differs by from where it started (the base, or
    the first model) and `spread` Σ|w_i x_i|, all of the shape of `got`.
    """
    assert got.shape == want.shape
    if got.dtype in (torch.bfloat16, torch.float16):
        rounded = want.to(torch.float32).to(got.dtype).double()
        error = (got.double() - rounded).abs()
        assert bool((error <= step(want, got.dtype) + 2**-22 * spread).all())
    error = torch.linalg.vector_norm(got.double() - want)
    half_steps = torch.linalg.vector_norm(0.5 * step(want, got.dtype))
    allowed = 1e-5 * torch.linalg.vector_norm(change) + half_steps
    if got.dtype in (torch.bfloat16, torch.float16):
        allowed = allowed + torch.linalg.vector_norm(2**-22 * spread)
    assert error <= allowed, (error, allowed)
