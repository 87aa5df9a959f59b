"""The factored step of OPCM against dense float64."""

from __future__ import annotations

import pytest
import torch
from reference.opcm import projected

from mdm_kit.maths.low_rank import Factors, add_low_rank
from mdm_kit.maths.projection import VARIANTS

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(60, 60), (200, 40), (30, 90), (1, 50), (50, 1)]


def factors(shape: tuple[int, int], rank: int, seed: int) -> Factors:
    g = torch.Generator().manual_seed(seed)
    left = torch.randn(shape[0], rank, generator=g, dtype=torch.float64)
    return Factors(left, torch.randn(rank, shape[1], generator=g, dtype=torch.float64))


def added(total: Factors, change: Factors, variant: str, alpha: float):
    return add_low_rank(total, change, alpha=alpha, variant=variant, tail_tol=1e-7)


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).norm())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_step_is_that_of_dense_float64(
    shape: tuple[int, int], alpha: float, variant: str
) -> None:
    total = Factors(torch.zeros(shape[0], 0).double(), torch.zeros(0, shape[1]).double())
    for i, rank in enumerate((4, 1, 7)):
        change = factors(shape, rank, i)
        before, d = total.dense(), change.dense()
        want = projected(d, before, alpha=alpha, variant=variant)
        step = added(total, change, variant, alpha)
        assert distance(step.kept.dense(), want) <= 1e-8 * float(d.norm())
        assert distance(step.total.dense(), before + want) <= 1e-8 * float(d.norm())
        assert step.kept.rank <= total.rank + rank
        assert step.total.rank <= total.rank + rank
        energy = float(want.square().sum())
        assert step.kept.squared_norm() == pytest.approx(energy, rel=1e-9, abs=1e-9)
        total = step.total


@pytest.mark.parametrize("variant", ["reference", "paper"])
def test_what_is_kept_is_orthogonal_to_what_was_there(variant: str) -> None:
    """Theorem 5.1, also where the change was there before."""
    total, change = factors((80, 50), 6, 0), factors((80, 50), 3, 1)
    both = Factors(
        torch.cat((change.left, 5 * total.left), 1), torch.cat((change.right, total.right))
    )
    for d in (change, both):
        kept = added(total, d, variant, 0.5).kept.dense()
        product = float((kept * total.dense()).sum())
        assert abs(product) <= 1e-10 * float(kept.norm() * total.dense().norm())


@pytest.mark.parametrize("variant", VARIANTS)
def test_factors_that_say_the_same_twice_are_as_good(variant: str) -> None:
    total, change = factors((40, 30), 5, 0), factors((40, 30), 2, 1)
    twice = Factors(
        torch.cat((total.left, total.left), 1), torch.cat((0.25 * total.right, 0.75 * total.right))
    )
    one, other = (added(t, change, variant, 0.5) for t in (total, twice))
    assert (one.cut.rank, one.cut.live) == (other.cut.rank, other.cut.live)
    assert distance(one.kept.dense(), other.kept.dense()) <= 1e-10
