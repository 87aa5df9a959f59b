"""Rounding and folding one step at a time, in numpy, which neither fuses nor reorders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FORMATS = {torch.float32: (24, -125), torch.bfloat16: (8, -125), torch.float16: (11, -13)}
"""Significant bits, and the exponent (as frexp has it) of the smallest normal number."""


def nearest(x: NDArray[np.float64], dtype: torch.dtype) -> Tensor:
    """`x` rounded once to nearest, ties to even: scaled to integers, where rint does just that."""
    if dtype is torch.float64:
        return torch.from_numpy(np.asarray(x))
    precision, lowest = FORMATS[dtype]
    exponent = np.maximum(np.frexp(x)[1], lowest)
    rounded = np.ldexp(np.rint(np.ldexp(x, precision - exponent)), exponent - precision)
    # What numpy makes of a scalar is no array; the last step is exact.
    return torch.from_numpy(np.asarray(rounded)).to(dtype)


def fold(base: Tensor, models: Sequence[Tensor], weights: Sequence[float], *, wide: bool) -> Tensor:
    """Return base + (w_1 d_1 + w_2 d_2 + ...) as float64, each step rounded by itself.

    Products, sums and deltas are float32 numbers, or float64 if `wide`.
    """
    real = np.float64 if wide else np.float32
    start = base.double().numpy().astype(real)
    total = None
    for m, w in zip(models, weights, strict=True):
        product = (m.double().numpy().astype(real) - start) * real(w)
        total = product if total is None else total + product
    assert total is not None
    return torch.from_numpy(np.asarray(start + total, np.float64))


def bits(t: Tensor) -> bytes:
    """The tensor's bytes, so that -0.0 and 0.0 are told apart."""
    stored = t.contiguous().flatten()
    return stored.view(torch.uint8).numpy().tobytes() if stored.numel() else b""
