"""DARE and DELLA keep what their counters say, and the shares they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from merging import merged
from reference import rules as ref
from reference.dense import assert_accurate
from reference.philox import number
from rule_cases import BIG, TILE, WEIGHTS, family, given
from torch import Tensor

from mdm_kit.methods.registry import methods
from mdm_kit.run.drawing import key_of


def draws(shape: tuple[int, ...], seed: int, model: str) -> Tensor:
    key = key_of(seed, "w", model)
    n = torch.Size(shape).numel()
    return torch.tensor([number(key, e) for e in range(n)], dtype=torch.float64).reshape(shape)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
@pytest.mark.parametrize("rescale", [True, False])
def test_dare_keeps_what_its_counters_say(name: str, rescale: bool) -> None:
    shape, density = (61, 83), (0.5, 0.1, 1.0)
    base, models = family(shape, 3)

    def kept(d: Tensor, i: int) -> Tensor:
        if density[i] == 1.0:
            return torch.ones_like(d, dtype=torch.bool)
        return draws(shape, 7, f"m{i}") < round(density[i] * 2**32)

    want = ref.masked(
        base, models, kept, WEIGHTS, elect=name.endswith("ties"), rescale=rescale, normalize=False
    )
    p = given(name, 3, weight=WEIGHTS, density=density, rescale=rescale)
    got = merged(methods()[name], p, models, base, seed=7)
    assert_accurate(got, want, want - base.double(), base.double().abs())


@pytest.mark.parametrize("name", ["della", "della_linear"])
@pytest.mark.parametrize("shape", [(61, 83), (50,), (5, 6, 7), (4, 1), (2, 4100)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_della_keeps_by_rank_in_its_row(
    name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    density, epsilon = (0.5, 0.3, 1.0), (0.15, 0.2, 0.1)
    base, models = family(shape, 3, dtype)
    axis = 1 if len(shape) > 1 else 0

    def kept(d: Tensor, i: int) -> Tensor:
        if density[i] == 1.0:
            return torch.ones_like(d, dtype=torch.bool)
        # Of equal magnitudes the lower index ranks higher: sorted from the far end, stably.
        turned = d.abs().flip(axis).argsort(dim=axis, stable=True).argsort(dim=axis)
        rank = turned.flip(axis).double()
        m = shape[axis]
        share = rank / (m - 1) if m > 1 else torch.full_like(rank, 0.5)
        low = density[i] - epsilon[i]
        return draws(shape, 0, f"m{i}") < (low + 2 * epsilon[i] * share) * 2**32

    elect = name == "della"
    want = ref.masked(base, models, kept, WEIGHTS, elect=elect, normalize=elect, rescale=True)
    p = given(name, 3, weight=WEIGHTS, density=density, epsilon=epsilon)
    got = merged(methods()[name], p, models, base)
    assert_accurate(got, want, want - base.double(), base.double().abs() + 1)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_draws_survive_tiles_and_models_that_come_and_go(name: str) -> None:
    base, models = family(BIG, 2)
    method = methods()[name]

    def alone(weights: tuple[float, ...], **how: Any) -> Tensor:
        p = given(name, 2, weight=weights, density=0.5, rescale=False, normalize=False)
        return merged(method, p, models, base, **how)

    assert torch.equal(alone((1.0, 0.0)), alone((1.0, 0.0), tile=TILE))
    (only,) = [
        merged(
            method,
            given(name, 1, weight=1.0, density=0.5, rescale=False, normalize=False),
            models[:1],
            base,
        )
    ]
    assert torch.equal(alone((1.0, 0.0)), only)
    assert not torch.equal(alone((1.0, 0.0), seed=1), only)


@pytest.mark.parametrize(("density", "epsilon"), [(0.3, 0.2), (0.8, 0.1)])
def test_della_keeps_the_shares_it_promises(density: float, epsilon: float) -> None:
    """Mean and slope over many draws, four standard deviations wide."""
    base, (model,) = family((64, 400), 1)
    d = (model - base).abs()
    kept = torch.zeros(d.shape)
    n_seeds = 30
    for seed in range(n_seeds):
        p = given("della_linear", 1, weight=1.0, density=density, epsilon=epsilon, rescale=False)
        got = merged(methods()["della_linear"], p, [model], base, seed=seed)
        kept += (got != base).float()
    share = kept / n_seeds
    deviation = 0.5 / (n_seeds * d.numel()) ** 0.5
    assert abs(float(share.mean()) - density) < 4 * deviation
    order = d.argsort(dim=1)
    tenth = d.shape[1] // 10
    for ranks, expected in (
        (order[:, :tenth], density - 0.9 * epsilon),
        (order[:, -tenth:], density + 0.9 * epsilon),
    ):
        found = float(share.gather(1, ranks).mean())
        assert abs(found - expected) < 4 * deviation * 10**0.5
