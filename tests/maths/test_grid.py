"""Exact sums on a grid: one rounding each, no order, no wrapping."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdm_kit.errors import MisfitError
from mdm_kit.maths.grid import SMALLEST_BASE, Grid, n_triangle

I64s = NDArray[np.int64]

LIMIT = 2**62

numbers = st.floats(-1e3, 1e3, width=32)
factors = st.floats(0.0, 8.0)


def steps(x: float, factor: float, grid: Grid) -> int:
    """Python rounds fractions to even."""
    return round(Fraction(x * factor) / Fraction(2) ** grid.exponent)


def added(terms: list[tuple[list[float], float, int]], grid: Grid, dtype: torch.dtype) -> I64s:
    sums = np.zeros(len(terms[0][0]), np.int64)
    for values, factor, sign in terms:
        grid.add(torch.tensor(values, dtype=dtype), factor, sums, sign=sign)
    return sums


@given(st.lists(numbers, min_size=1, max_size=40), factors, st.integers(-45, 2))
@example([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5, 0.49999997, -0.0], 1.0, 0)
@example([2.0**52 + 1, 2.0**51 + 0.5, 2.0**51 + 1.5, -(2.0**52) - 1, 2.0**61], 1.0, 0)
def test_each_number_is_rounded_to_the_nearest_step_and_ties_to_even(
    values: list[float], factor: float, exponent: int
) -> None:
    grid = Grid(exponent)
    want = [steps(x, factor, grid) for x in values]
    assert added([(values, factor, 1)], grid, torch.float64).tolist() == want
    assert added([(values, factor, -1)], grid, torch.float64).tolist() == [-x for x in want]
    narrow = torch.tensor(values, dtype=torch.float32).tolist()
    got = added([(values, factor, 1)], grid, torch.float32)
    assert got.tolist() == [steps(x, factor, grid) for x in narrow]


@given(st.lists(st.tuples(numbers, factors), min_size=2, max_size=12), st.data())
def test_order_and_what_was_taken_out_again_leave_no_trace(
    terms: list[tuple[float, float]], data: st.DataObject
) -> None:
    grid = Grid(-40)
    kept = data.draw(st.integers(1, len(terms)))
    plain = added([([x], f, 1) for x, f in terms[:kept]], grid, torch.float32)
    moves = [([x], f, 1) for x, f in terms] + [([x], f, -1) for x, f in terms[kept:]]
    mixed = added(data.draw(st.permutations(moves)), grid, torch.float32)
    assert plain.tobytes() == mixed.tobytes()


@given(st.floats(2.0**SMALLEST_BASE, 1e300))
@example(0.25)
@example(1.0)
@example(1.0 + 2.0**-52)
def test_step_is_set_by_the_power_of_two_at_or_above_the_base(largest: float) -> None:
    above = Fraction(Grid.of_base(largest, 10).step) * 2**10
    assert above / 2 < Fraction(largest) <= above


@pytest.mark.parametrize("largest", [0.0, 5e-324, 1e-12, 0.06])
def test_base_near_zero_leaves_room_for_its_models(largest: float) -> None:
    assert Grid.of_base(largest, 48) == Grid(SMALLEST_BASE - 48)


@pytest.mark.parametrize("largest", [np.inf, np.nan])
def test_base_that_is_not_finite_has_no_grid(largest: float) -> None:
    with pytest.raises(ValueError, match="largest magnitude"):
        Grid.of_base(largest, 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("value", "before"),
    [
        (2.0**62, 0),
        (-(2.0**62), 0),
        (2.0**63, 0),
        (1e30, 0),
        (np.inf, 0),
        (-np.inf, 0),
        (np.nan, 0),
        (2.0**61, 2**61 + 1),
        (-(2.0**61), -(2**61) - 1),
        (1.0, LIMIT),
    ],
)
def test_what_has_no_room_is_said_and_never_wraps(
    value: float, before: int, sign: int, dtype: torch.dtype
) -> None:
    values = torch.zeros(70, dtype=dtype)
    values[67] = value
    sums = np.zeros(70, np.int64)
    sums[67] = sign * before
    with pytest.raises(MisfitError, match=r"too far from its base .* 1 numbers"):
        Grid(0).add(values, 1.0, sums, sign=sign)


def test_room_is_used_to_its_end() -> None:
    sums = np.array([2**61, -(2**61)])
    Grid(0).add(torch.tensor([2.0**61, -(2.0**61)]), 1.0, sums)
    assert sums.tolist() == [LIMIT, -LIMIT]


@given(st.lists(st.integers(-LIMIT, LIMIT), max_size=40), st.integers(-60, 0))
def test_sums_are_read_to_float64s_last_bit(whole: list[int], exponent: int) -> None:
    grid = Grid(exponent)
    out = torch.empty(len(whole), dtype=torch.float64)
    grid.read(np.array(whole, np.int64), out)
    assert out.tolist() == [float(x) * grid.step for x in whole]


def elsewhere(sums: I64s, how: str) -> I64s:
    """The same numbers where a kernel cannot work on them as they lie, or can by luck."""
    if how == "misaligned":
        raw = np.zeros(sums.nbytes + 16, np.uint8)
        moved = raw[3 : 3 + sums.nbytes].view(np.int64).reshape(sums.shape)
    elif how == "strided":
        moved = np.zeros((*sums.shape[:-1], 3 * sums.shape[-1]), np.int64)[..., ::3]
    else:
        moved = np.zeros(sums.size + 1, np.int64)[1:].reshape(sums.shape)
    moved[...] = sums
    return moved


@pytest.mark.parametrize("how", ["misaligned", "strided", "odd"])
def test_sums_may_lie_anywhere(how: str) -> None:
    rng = np.random.default_rng(0)
    grid = Grid(-50)
    values = torch.from_numpy(rng.standard_normal((37, 83)).astype(np.float32))
    start = rng.integers(-(2**40), 2**40, (37, 83))
    plain, moved = start.copy(), elsewhere(start, how)
    grid.add(values, 0.3, plain)
    grid.add(values, 0.3, moved)
    assert np.array_equal(plain, moved)
    read = torch.empty(2, 37, 83, dtype=torch.float64)
    grid.read(plain, read[0])
    grid.read(moved, read[1])
    assert torch.equal(read[0], read[1])


@pytest.mark.parametrize("how", ["plain", "misaligned", "strided"])
@pytest.mark.parametrize("sign", [1, -1])
def test_triangle_takes_a_matrix_up_to_its_diagonal(how: str, sign: int) -> None:
    n, grid = 29, Grid(-30)
    matrix = torch.from_numpy(np.random.default_rng(1).standard_normal((n, n + 4)))
    sums = elsewhere(np.zeros(n_triangle(n), np.int64), how)
    for first, count in ((0, 10), (10, 12), (22, 7)):
        grid.add_triangle(matrix[first : first + count], 0.7, sums, first, sign=sign)
    want = [sign * steps(float(matrix[i, j]), 0.7, grid) for i in range(n) for j in range(i + 1)]
    assert sums.tolist() == want
    out = torch.full((n, n), 5.0, dtype=torch.float64)
    grid.read_triangle(sums, out)
    rows, columns = np.tril_indices(n)
    assert out.numpy()[rows, columns].tolist() == [x * grid.step for x in want]
    assert (out.triu(1) == torch.full((n, n), 5.0).triu(1)).all()


def test_values_may_be_a_view() -> None:
    values = torch.arange(60.0).reshape(6, 10)[:, ::2]
    sums = np.zeros((6, 5), np.int64)
    Grid(0).add(values, 1.0, sums)
    assert sums.tolist() == values.tolist()
