"""Singular values and polar factors far below the largest value, where one Gram matrix fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mdm_kit.maths.changes import Columns
from mdm_kit.maths.singular import Cut, singular_of, write_left
from mdm_kit.maths.spectrum import add_upper, spectrum_of

pytestmark = pytest.mark.usefixtures("one_thread")


def graded(long: int, values: Tensor) -> Tensor:
    """A matrix (long, n) with these singular values."""
    torch.manual_seed(1)
    u, _ = torch.linalg.qr(torch.randn(long, len(values), dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))
    return (u * values) @ v.mT


def polar_of(x: Tensor) -> Tensor:
    found = singular_of(Columns(x))
    left = torch.empty(len(x), len(found.values), dtype=torch.float64)
    write_left(Columns(x), found, left)
    return left @ found.vectors


@pytest.mark.parametrize("lowest", [0.0, -3.4, -6.9])
@pytest.mark.parametrize("long", [40, 300])
def test_down_to_what_counts_as_zero(long: int, lowest: float) -> None:
    values = torch.logspace(0, lowest, 40, dtype=torch.float64)
    x = graded(long, values)
    assert torch.allclose(singular_of(Columns(x)).values, values, rtol=1e-7)
    u, _, vt = np.linalg.svd(x.numpy(), full_matrices=False)
    assert np.abs(polar_of(x).numpy() - u @ vt).max() < 1e-6


def test_a_cluster_of_small_values_needs_the_second_step() -> None:
    """One Gram matrix gets its directions wrong beyond what a merge may be."""
    x = graded(300, torch.cat((torch.ones(20), torch.linspace(3e-7, 9e-7, 20))).double())
    gram = torch.zeros(40, 40, dtype=torch.float64)
    add_upper(gram, x, x)
    once = spectrum_of(gram)
    u, _, vt = np.linalg.svd(x.numpy(), full_matrices=False)
    first = x @ (once.vectors.mT / once.values) @ once.vectors
    assert np.abs(first.numpy() - u @ vt).max() > 3e-5
    assert np.abs(polar_of(x).numpy() - u @ vt).max() < 1e-6


def test_what_is_dead_is_left_out() -> None:
    values = torch.tensor([2.0, 1.0, 1e-8, 0.0], dtype=torch.float64)
    assert torch.allclose(singular_of(Columns(graded(9, values))).values, values[:2])
    assert len(singular_of(Columns(graded(9, values)), Cut(least=1.5)).values) == 1
    assert len(singular_of(Columns(graded(9, values)), Cut(share=0.6)).values) == 1
    assert len(singular_of(Columns(torch.zeros(9, 4, dtype=torch.float64))).values) == 0
