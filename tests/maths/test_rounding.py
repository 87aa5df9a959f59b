"""One rounding to 16 bits, against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdm_kit.maths.rounding import all_finite, round_into

BITS = {torch.bfloat16: (8, -126, 127), torch.float16: (11, -14, 15)}  # precision, exponents


def nearest_even(x: float, dtype: torch.dtype) -> float:
    """`x` rounded to nearest, ties to even, by the definition."""
    if x == 0:
        return x
    precision, low, high = BITS[dtype]
    exact = Fraction(x)
    exponent = max(np.frexp(x)[1] - 1, low)
    unit = Fraction(2) ** (int(exponent) - precision + 1)
    rounded = round(exact / unit) * unit  # Fraction rounds halves to even
    limit = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** high
    return float(rounded) if abs(rounded) <= limit else float(np.copysign(np.inf, x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_float64_is_rounded_once(dtype: torch.dtype, values: list[float]) -> None:
    out = torch.empty(len(values), dtype=dtype)
    round_into(torch.tensor(values, dtype=torch.float64), out)
    assert out.tolist() == [nearest_even(v, dtype) for v in values]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_just_beside_every_middle(dtype: torch.dtype) -> None:
    """The values double rounding gets wrong: a hair beside the middle of two neighbours."""
    ones = torch.arange(1, 200, dtype=torch.float64)
    spacing = 2.0 ** (1 - BITS[dtype][0])
    middles = 1.0 + (ones + 0.5) * spacing
    x = torch.cat([middles * (1 + s * 2.0**-45) for s in (-1, 0, 1)])
    x = torch.cat([x, -x])
    out = torch.empty(len(x), dtype=dtype)
    round_into(x, out)
    want = [nearest_even(v, dtype) for v in x.tolist()]
    assert out.tolist() == want
    assert x.to(dtype).tolist() != want, "torch rounds once by itself now: drop the detour"


def test_infinities_and_nan_stay() -> None:
    out = torch.empty(3, dtype=torch.bfloat16)
    round_into(torch.tensor([np.inf, -np.inf, np.nan], dtype=torch.float64), out)
    assert out[0] == np.inf
    assert out[1] == -np.inf
    assert out[2].isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_sees_one_bad_value(dtype: torch.dtype, bad: float) -> None:
    x = torch.zeros(1001, dtype=dtype)
    assert all_finite(x)
    x[1000] = bad
    assert not all_finite(x)
    assert all_finite(torch.empty(0, dtype=dtype))
