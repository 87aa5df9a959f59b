"""Spectra from Gram matrices against singular value decompositions, and where they are cut."""

from __future__ import annotations

import math

import pytest
import torch

from mdm_kit.errors import MdmError, NotFiniteError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.spectrum import (
    Split,
    _by_svd,
    _first_solution,
    add_upper,
    quadratic_forms,
    spectrum_of,
    split,
    squared_norm,
)


def tall(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gram_of(lines: torch.Tensor) -> torch.Tensor:
    gram = torch.zeros(lines.shape[1], lines.shape[1], dtype=torch.float64)
    add_upper(gram, lines, lines)
    return gram


@pytest.mark.parametrize("n", [1, 5, 255, 256, 257, 700])
def test_the_upper_triangle_is_that_of_the_gram_matrix_whatever_the_panels(n: int) -> None:
    lines = tall(31, n)
    want = lines.mT @ lines
    assert torch.allclose(gram_of(lines).triu(), want.triu(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("r", "n"), [(0, 3), (1, 1), (7, 300), (300, 257)])
def test_quadratic_forms_need_half_the_matrix_only(r: int, n: int) -> None:
    vectors, matrix = tall(r, n), tall(n, n, 1)
    want = (vectors @ matrix @ vectors.mT).diagonal()
    assert torch.allclose(quadratic_forms(vectors, matrix), want, rtol=1e-9, atol=1e-9)


def test_what_lies_below_the_diagonal_is_not_read() -> None:
    gram = gram_of(tall(150, 60))
    noise = gram + torch.ones_like(gram).tril(-1)
    for one, other in ((spectrum_of(gram), spectrum_of(noise)), (_by_svd(gram), _by_svd(noise))):
        assert torch.equal(one.values, other.values)
        assert torch.equal(one.vectors, other.vectors)


@pytest.mark.parametrize("solve", [spectrum_of, _by_svd])
@pytest.mark.parametrize(("m", "n"), [(50, 50), (200, 30), (9, 1)])
def test_values_and_vectors_are_those_of_the_matrix(solve, m: int, n: int) -> None:
    s = tall(m, n)
    found = solve(gram_of(s))
    assert torch.allclose(found.values, torch.linalg.svdvals(s), rtol=1e-9)
    left = s @ found.vectors.mT / found.values
    assert torch.allclose(left.mT @ left, torch.eye(n, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(left * found.values @ found.vectors, s, atol=1e-9)


def never(_: torch.Tensor):
    raise torch.linalg.LinAlgError("no convergence")


def test_another_solver_takes_over_and_without_one_the_size_is_named() -> None:
    gram = gram_of(tall(40, 12))
    found = _first_solution(gram, (never, _by_svd))
    assert torch.allclose(found.values, spectrum_of(gram).values)
    with pytest.raises(MdmError, match="12 columns did not converge"):
        _first_solution(gram, (never, never))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_named(bad: float) -> None:
    lines = tall(4, 3)
    lines[2, 1] = bad
    with pytest.raises(NotFiniteError, match="3 columns"):
        spectrum_of(gram_of(lines))


def cut(values: list[float], alpha: float, tail_tol: float | None = 1e-7, edge: float = 0) -> Split:
    return split(torch.tensor(values).double(), alpha=alpha, tail_tol=tail_tol, noise_edge=edge)


def test_the_head_ends_where_its_share_is_exceeded_not_reached() -> None:
    values = [4.0, 2.0, 1.0, 1.0]
    assert [cut(values, a).rank for a in (0.0, 0.49, 0.5, 0.74, 0.75, 0.99)] == [0, 0, 1, 1, 2, 3]


def test_with_all_of_the_share_everything_live_is_the_head() -> None:
    assert cut([3.0, 2.0, 1e-9, 0.0], 1.0) == Split(2, 2, pytest.approx(2.0 / 3e-7))
    assert cut([3.0, 2.0, 1e-9, 0.0], 1.5).rank == 2


def test_the_head_has_no_dead_direction_and_rounding_no_share() -> None:
    assert cut([1.0, 0.01, 0.009, 0.008], 0.99, tail_tol=0.02) == Split(1, 1, pytest.approx(50.0))
    noise = [1.0, *[0.99e-7] * 100_000]
    assert cut(noise, 0.995).rank == 0


def test_the_noise_of_stored_weights_is_dead_unless_a_tolerance_is_given() -> None:
    values = [1.0, 0.5, 3e-4, 2e-4]
    assert cut(values, 0.5, None, 3.5e-4) == Split(0, 2, pytest.approx(0.5 / 3.5e-4))
    assert cut(values, 0.5, None, 0.0).live == 4
    assert cut(values, 0.5, 1e-7, 3.5e-4).live == 4
    assert cut(values, 0.9, None, 2.0) == Split(0, 0, math.inf)


def test_zeros_have_neither_head_nor_tail() -> None:
    assert cut([0.0, 0.0], 0.5) == cut([], 0.5) == Split(0, 0, math.inf)
    assert cut([1.0], 0.5, tail_tol=0.0) == Split(0, 1, math.inf)


@pytest.mark.parametrize("n", [0, 1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squared_norms_are_float64_over_blocks(n: int, dtype: torch.dtype) -> None:
    x = tall(n, 1).to(dtype)
    assert squared_norm(x) == pytest.approx(math.fsum(v * v for v in x.flatten().tolist()))
    ends = squared_norm(x[:BLOCK]) + squared_norm(x[BLOCK : 2 * BLOCK])
    assert squared_norm(x) == ends + squared_norm(x[2 * BLOCK :])
    assert torch.equal(x, tall(n, 1).to(dtype))
