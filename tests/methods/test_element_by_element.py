"""RAM, RAM+ and NearSwap against dense float64 references."""

from __future__ import annotations

import pytest
import torch
from reference import rules as ref
from rule_cases import both, dtypes, sizes


@dtypes
@sizes
@pytest.mark.parametrize("t", [0.0, 0.005, 1.0])
def test_nearswap(shape: tuple[int, ...], dtype: torch.dtype, t: float) -> None:
    both("nearswap", lambda b, m: ref.nearswap(b, m[0], t), shape, 1, dtype, t=t)


@dtypes
@sizes
def test_ram(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    both("ram", lambda b, m: ref.ram(b, m, 0.02), shape, 3, dtype, epsilon=0.02)


@dtypes
@sizes
def test_ramplus(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = {"epsilon": 0.02, "r": 0.7, "alpha": 0.6}
    both("ramplus_tl", lambda b, m: ref.ram(b, m, 0.02, 0.7, 0.6), shape, 3, dtype, **values)
