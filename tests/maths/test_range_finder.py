"""Randomised factors against numpy's singular value decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mdm_kit.maths.range_finder import Factored, numbers_of, of_energy, of_rank

pytestmark = pytest.mark.usefixtures("one_thread")


def numbers() -> torch.Generator:
    return numbers_of(0, "t")


def noise(m: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def low_rank(m: int, n: int, rank: int) -> Tensor:
    return noise(m, rank, 1) @ noise(rank, n, 2) / math.sqrt(rank)


def decaying(m: int, n: int, power: float) -> Tensor:
    left = torch.linalg.qr(noise(m, min(m, n), 3))[0]
    right = torch.linalg.qr(noise(n, min(m, n), 4))[0]
    return left * torch.arange(1, min(m, n) + 1).float().pow(-power) @ right.mT


def stored(change: Tensor) -> Tensor:
    """A change as bfloat16 weights keep it: with the rounding of their sum."""
    base = noise(*change.shape, 5)
    return (base + change).bfloat16().float() - base.bfloat16().float()


SPECTRA = {
    "flat": noise(150, 220),
    "flat, tall": noise(220, 150),
    "slow decay": decaying(200, 160, 0.5),
    "fast decay": decaying(160, 200, 2.0),
    "low rank, rounded": stored(0.05 * low_rank(180, 200, 8)),
    "low rank": low_rank(180, 200, 8),
}


def error(d: Tensor, found: Factored) -> float:
    return float(np.linalg.norm(d.double() - found.left.double() @ found.right.double()))


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("rank", [4, 8, 40, 140])
def test_rank_is_as_good_as_the_best(spectrum: str, rank: int) -> None:
    d = SPECTRA[spectrum]
    sigma = np.linalg.svd(d.double().numpy(), compute_uv=False)
    best = math.sqrt(float((sigma[rank:] ** 2).sum()))
    found = of_rank(d, rank, numbers())
    assert found.rank <= rank
    assert error(d, found) <= 1.02 * best + 3e-6 * sigma[0]


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("energy", [0.3, 0.7, 0.95])
def test_energy_is_held_by_the_least_rank(spectrum: str, energy: float) -> None:
    d = SPECTRA[spectrum]
    squares = np.linalg.svd(d.double().numpy(), compute_uv=False) ** 2
    least = int(np.searchsorted(np.cumsum(squares), energy * squares.sum())) + 1
    found = of_energy(d, energy, numbers())
    assert least <= found.rank <= least + 1
    assert 1.0 - (error(d, found) ** 2 / squares.sum()) >= energy - 1e-6


def test_energy_grows_by_blocks() -> None:
    """A spectrum that needs several blocks and stays below half of the sides."""
    d = stored(0.5 * low_rank(600, 500, 90))
    squares = np.linalg.svd(d.double().numpy(), compute_uv=False) ** 2
    least = int(np.searchsorted(np.cumsum(squares), 0.9 * squares.sum())) + 1
    assert 42 < least < 100
    found = of_energy(d, 0.9, numbers())
    assert least <= found.rank <= least + 1
    assert of_energy(d, 0.9, numbers(), max_rank=50).rank == 50


def test_what_is_not_there_is_no_factor() -> None:
    one = torch.zeros(90, 70)
    one[3, 4] = -2.0
    assert of_rank(one, 16, numbers()).rank == 1
    assert of_rank(low_rank(180, 200, 8), 32, numbers()).rank == 8
    assert of_rank(one[:2], 16, numbers()).rank == 0
    assert of_energy(one, 1.0, numbers()).rank == 1


def numbers_of_are_the_names_and_the_seeds_alone() -> None:
    d = SPECTRA["flat"]
    found, again = of_rank(d, 8, numbers()), of_rank(d, 8, numbers())
    assert torch.equal(found.left, again.left)
    assert torch.equal(found.right, again.right)
    assert not torch.equal(found.left, of_rank(d, 8, numbers_of(1, "t")).left)
    assert not torch.equal(found.left, of_rank(d, 8, numbers_of(0, "u")).left)
