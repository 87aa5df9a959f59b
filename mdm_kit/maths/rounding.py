"""One rounding to the output dtype, whatever the dtype of the arithmetic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


ROUND_OFF = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
"""Unit round-off of the dtypes (safetensors names) numbers are stored in."""


def round_into(x: Tensor, out: Tensor) -> None:
    """Write `x` (*S,) into `out` (*S,), rounded once to nearest, ties to even.

    torch converts float64 to a 16-bit type through float32, which rounds twice: a value just above
    the middle between two bfloat16 numbers can first fall onto the middle and then to the wrong
    side. Here the step to float32 rounds to odd instead, which leaves enough of what was cut off
    for the second step to be right (Boldo and Melquiond 2008, "Emulation of FMA and correctly
    rounded sums: proved algorithms using rounding to odd").
    """
    if x.element_size() == 8 and out.element_size() == 2:
        x = _round_to_odd(x)
    out.copy_(x)


def noise_edge(dtype: str, size: float, n_out: int, n_in: int) -> float:
    """Return the spectral norm of the rounding of weights (out, in) of root mean square `size`.

    That of a matrix of independent errors, evenly spread over a step of the numbers.
    """
    return ROUND_OFF[dtype] * size * (math.sqrt(n_out) + math.sqrt(n_in)) / math.sqrt(3.0)


def _round_to_odd(x: Tensor) -> Tensor:
    import torch

    nearest = x.to(torch.float32)
    back = nearest.to(torch.float64)
    bits = nearest.view(torch.int32)
    bits = torch.where(back.abs() > x.abs(), bits - 1, bits)  # one step towards zero: truncation
    bits = torch.where((back != x) & x.isfinite(), bits | 1, bits)
    return bits.view(torch.float32)


def all_finite(x: Tensor) -> bool:
    """Return whether a floating tensor (*S,) holds no NaN and no infinity.

    The extremes carry a NaN along, so one pass without a mask is enough.
    """
    if x.numel() == 0:
        return True
    low, high = x.aminmax()
    return bool(low.isfinite() and high.isfinite())
