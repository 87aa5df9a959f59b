"""Points and means on spheres against float64 references that have the vectors."""

from __future__ import annotations

import pytest
import torch
from merging import merged
from reference import rules as ref
from reference.dense import assert_accurate
from rule_cases import BIG, DTYPES, SHAPES, both, dtypes, given, sizes
from torch import Tensor

from mdm_kit.errors import MisfitError
from mdm_kit.methods.registry import methods

vectors = pytest.mark.parametrize(
    "shape", [s for s in (*SHAPES, BIG) if s not in ((), (1,))], ids=str
)
"""Directions of single numbers are signs, which may cancel."""


@sizes
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (dtype, size)
        for dtype in DTYPES
        for size in (0.01, 1.0, 30.0)
        if dtype is not torch.float16 or size <= 1  # the others are beyond its range
    ],
)
def test_slerp(shape: tuple[int, ...], dtype: torch.dtype, t: float, size: float) -> None:
    both("slerp", lambda b, m: ref.slerp(b, m[0], t), shape, 1, dtype, size, t=t)


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [(s, d) for s in (*SHAPES, BIG) for d in (None, -1, 0) if s or d is None],
    ids=str,
)
def test_nuslerp(shape: tuple[int, ...], with_base: bool, dim: int | None) -> None:
    def want(base: Tensor, models: list[Tensor]) -> Tensor:
        if not with_base:
            return ref.nuslerp(models[0].double(), models[1].double(), 0.25, dim)
        a, b = ref.deltas(base, models)
        return base.double() + ref.nuslerp(a, b, 0.25, dim)

    both(
        "nuslerp",
        want,
        shape,
        2,
        torch.float32,
        1.0,
        with_base=with_base,
        weight=(0.6, 0.2),
        nuslerp_flatten=dim is None,
        nuslerp_row_wise=dim == 0,
    )


@vectors
@pytest.mark.parametrize("with_base", [True, False])
def test_multislerp(shape: tuple[int, ...], with_base: bool) -> None:
    def want(base: Tensor, models: list[Tensor]) -> Tensor:
        if not with_base:
            return ref.multislerp(models, (0.3, 0.6, 0.2))
        return base.double() + ref.multislerp(ref.deltas(base, models), (0.3, 0.6, 0.2))

    weight = (0.3, 0.6, 0.2)
    both("multislerp", want, shape, 3, torch.float32, 0.5, with_base=with_base, weight=weight)


@dtypes
@vectors
@pytest.mark.parametrize("size", [0.02, 0.7])
def test_karcher(shape: tuple[int, ...], dtype: torch.dtype, size: float) -> None:
    both("karcher", lambda _, m: ref.karcher(m), shape, 3, dtype, size, with_base=False)


@dtypes
@sizes
@pytest.mark.parametrize("rows", [True, False])
def test_model_stock(shape: tuple[int, ...], dtype: torch.dtype, rows: bool) -> None:
    g = torch.Generator().manual_seed(5)
    base = torch.randn(shape, generator=g, dtype=torch.float64)
    common = torch.randn(shape, generator=g, dtype=torch.float64)
    own = [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(3)]
    models = [(base + 0.1 * (common + o)).to(dtype) for o in own]
    base = base.to(dtype)
    want = ref.model_stock(base, models, rows=rows)
    got = merged(methods()["model_stock"], given("model_stock", 3, filter_wise=rows), models, base)
    assert_accurate(got, want, want - base.double(), base.double().abs() + 1)


def test_unchanged_tensors_stay_whatever_the_sphere_says() -> None:
    base = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    p = given("multislerp", 3, weight=(0.2, 0.3, 0.5))
    assert torch.equal(merged(methods()["multislerp"], p, [base] * 3, base), base)
    assert torch.equal(
        merged(methods()["model_stock"], given("model_stock", 3), [base] * 3, base), base
    )


def test_directions_that_cancel_are_refused_in_words() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    p = given("multislerp", 3, weight=(0.5, 0.25, 0.25))
    with pytest.raises(MisfitError, match="w: the weighted directions of the models cancel"):
        merged(methods()["multislerp"], p, [a, -a, -a])
