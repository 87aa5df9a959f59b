"""Methods that look at one element at a time, against dense float64 references."""

from __future__ import annotations

import pytest
import torch
from merging import merged
from reference import rules as ref
from rule_cases import WEIGHTS, both, dtypes, given, sizes

from mdm_kit.methods.registry import methods


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


@dtypes
@sizes
def test_magmax(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = {"lambda": 0.75}
    both("magmax", lambda b, m: ref.magmax(b, m, 0.75), shape, 3, dtype, **values)


def test_magmax_takes_the_later_of_equal_changes() -> None:
    base, (a, b) = torch.zeros(4), (torch.tensor([1.0, -2, 3, 0]), torch.tensor([-1.0, 2, 1, 0]))
    p = given("magmax", 2, **{"lambda": 0.5})
    assert merged(methods()["magmax"], p, [a, b], base).tolist() == [-0.5, 1, 1.5, 0]
    assert merged(methods()["magmax"], p, [b, a], base).tolist() == [0.5, -1, 1.5, 0]


@dtypes
@sizes
@pytest.mark.parametrize(("tall", "agree"), [(0.4, 2), (0.375, 3), (0.0, 1)])
def test_consensus(shape: tuple[int, ...], dtype: torch.dtype, tall: float, agree: int) -> None:
    values = {"weight": WEIGHTS, "tall": tall, "agree": float(agree), "lambda": 0.75}
    both(
        "consensus",
        lambda b, m: ref.consensus_arithmetic(b, m, WEIGHTS, tall, agree, 0.75),
        shape,
        3,
        dtype,
        **values,
    )


def test_consensus_drops_what_one_model_alone_wants() -> None:
    """The first element is one model's, the second both want, in the third they cancel."""
    a, b = torch.tensor([8.0, 4, 4]), torch.tensor([1.0, 4, -4])
    p = given("consensus", 2, **{"lambda": 0.5})
    found = merged(methods()["consensus"], p, [a, b], torch.zeros(3))
    assert found.tolist() == [0.0, 4.0, 0.0]
