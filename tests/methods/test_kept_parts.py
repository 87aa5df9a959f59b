"""TIES, Breadcrumbs, SCE and Arcee Fusion against dense float64 references, with ties and zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from merging import merged
from reference import rules as ref
from rule_cases import BIG, TILE, WEIGHTS, both, dtypes, family, given, sizes
from torch import Tensor

from mdm_kit.methods.registry import methods


def masks(*kept: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    return lambda d, i: kept[i](d)


@dtypes
@sizes
@pytest.mark.parametrize("normalize", [True, False])
def test_ties(shape: tuple[int, ...], dtype: torch.dtype, normalize: bool) -> None:
    density = (0.5, 0.31, 1.0)
    kept = masks(*map(ref.ties_kept, density))
    both(
        "ties",
        lambda b, m: ref.masked(
            b, m, kept, WEIGHTS, elect=True, normalize=normalize, rescale=not normalize, lam=0.7
        ),
        shape,
        3,
        dtype,
        weight=WEIGHTS,
        density=density,
        normalize=normalize,
        rescale=not normalize,
        **{"lambda": 0.7},
    )


@dtypes
@sizes
@pytest.mark.parametrize("name", ["breadcrumbs", "breadcrumbs_ties"])
def test_breadcrumbs(shape: tuple[int, ...], dtype: torch.dtype, name: str) -> None:
    density, gamma = (0.9, 0.5, 0.2), (0.01, 0.2, 0.9)
    kept = masks(*map(ref.middle_kept, density, gamma))
    both(
        name,
        lambda b, m: ref.masked(b, m, kept, WEIGHTS, elect=name.endswith("ties")),
        shape,
        3,
        dtype,
        weight=WEIGHTS,
        density=density,
        gamma=gamma,
    )


@dtypes
@sizes
@pytest.mark.parametrize("topk", [1.0, 0.4, 0.01, 0.0])
def test_sce(shape: tuple[int, ...], dtype: torch.dtype, topk: float) -> None:
    both("sce", lambda b, m: ref.sce(b, m, topk), shape, 3, dtype, select_topk=topk)


@dtypes
@pytest.mark.parametrize("shape", [(40,), (9, 17), (3, 5, 7), (30, 64), BIG], ids=str)
def test_arcee_fusion(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Equal but for elements whose importance rounding alone puts on a side of the threshold."""
    base, (model,) = family(shape, 1, dtype)
    method, p = methods()["arcee_fusion"], given("arcee_fusion", 1)
    got = merged(method, p, [model], base)
    want, importance = ref.arcee_fusion(base, model)
    sure = (importance - 1).abs() > 1e-5
    assert int((~sure).sum()) <= max(3, 0.001 * base.numel())
    near = want.to(dtype).double()
    assert torch.allclose(got.double()[sure], near[sure], rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert 0 < int((got != base).sum()) < 0.3 * base.numel()
    assert torch.equal(merged(method, p, [model], base, tile=TILE), got)


def test_equal_magnitudes_go_to_the_lowest_index() -> None:
    base = torch.zeros(8)
    model = torch.tensor([1.0, -1.0, 2.0, 1.0, 1.0, -1.0, 0.5, 1.0])
    got = merged(methods()["ties"], given("ties", 1, weight=1.0, density=0.5), [model], base)
    assert got.tolist() == [1.0, -1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    p = given("breadcrumbs", 1, weight=1.0, density=0.5, gamma=0.25)
    got = merged(methods()["breadcrumbs"], p, [model], base)
    assert got.tolist() == [0.0, -1.0, 0.0, 1.0, 1.0, -1.0, 0.0, 0.0]


def test_a_density_of_nothing_is_the_base() -> None:
    base, models = family((20, 20), 2)
    for name in ("ties", "dare_linear", "dare_ties", "della", "breadcrumbs"):
        p = given(name, 2, weight=(1.0, 1.0), density=0.0)
        assert torch.equal(merged(methods()[name], p, models, base), base), name


def test_tiny_numbers_are_ranked_as_well() -> None:
    """Denormal changes, in float32 and float64."""
    for dtype, size in ((torch.float32, 1e-40), (torch.float64, 1e-310)):
        model = torch.arange(1, 101, dtype=dtype) * size
        base = torch.zeros(100, dtype=dtype)
        got = merged(methods()["ties"], given("ties", 1, weight=1.0, density=0.1), [model], base)
        assert int((got != 0).sum()) == 10
        assert bool((got[90:] == model[90:]).all())


@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
def test_a_sample_that_misleads_and_a_short_last_tile_change_no_bit(name: str) -> None:
    """Sorted, so that runs of neighbours say little; with many ties around the limit."""
    n = 20 * TILE + 999
    g = torch.Generator().manual_seed(3)
    step = (torch.randint(0, 50, (n,), generator=g).double() / 64).sort().values
    base, model = torch.zeros(n), step.float()
    p = given(name, 1, weight=1.0, density=0.37)
    kept = ref.ties_kept(0.37) if name == "ties" else ref.middle_kept(0.37, 0.01)
    want = model * kept(model)
    for tile in (8 * TILE, 3 * TILE, TILE):
        for _ in range(3):  # whichever worker comes first
            assert torch.equal(merged(methods()[name], p, [model], base, tile=tile), want)


@pytest.mark.parametrize("weights", [(0.3,) * 4, (0.3, 0.2, 0.4, 0.1)])
def test_elections_do_not_depend_on_the_order_of_the_models(weights: tuple[float, ...]) -> None:
    base, models = family((200, 300), 4, torch.bfloat16, 0.002)
    base = base.clone()

    def elected(order: list[int]) -> Tensor:
        chosen = tuple(weights[i] for i in order)
        p = given("ties", 4, weight=chosen, density=1.0, normalize=False)
        return merged(methods()["ties"], p, [models[i] for i in order], base, out=torch.float32)

    forth, back = elected([0, 1, 2, 3]), elected([3, 2, 1, 0])
    assert torch.allclose(forth, back, rtol=1e-6, atol=1e-7)
