"""Maps inside a tensor that is a product of factors, against the same maps of the tensor itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matrix_views import dense

from mdm_kit.maths.factored_maps import MapPlace
from mdm_kit.maths.low_rank import Factors, add_low_rank, gram_of, side_by_side, weighted_sum
from mdm_kit.maths.low_rank_covariance import merged_low_rank
from mdm_kit.maths.low_rank_rows import ROWS, add_product
from mdm_kit.maths.matrix import Matrix

COUNTS = st.integers(1, 5)


def random_factors(rows: int, columns: int, rank: int, seed: int = 0) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn((rows, rank), generator=generator, dtype=torch.float64)
    return Factors(left, torch.randn((rank, columns), generator=generator, dtype=torch.float64))


@given(
    sizes=st.lists(COUNTS, min_size=1, max_size=3),
    repeats=st.integers(1, 3),
    n_in=st.integers(1, 7),
    turned=st.booleans(),
    transposed=st.booleans(),
)
def test_parts_are_those_of_the_tensor_and_make_it_up_again(
    sizes: list[int], repeats: int, n_in: int, turned: bool, transposed: bool
) -> None:
    n_out = sum(sizes) * repeats
    whole = Matrix.turned(n_out, n_in) if turned else Matrix.plain(n_out, n_in)
    shape = (n_in, n_out) if turned else (n_out, n_in)
    tensor = random_factors(*shape, 2)
    flat = tensor.dense().numpy().ravel()
    parts = []
    for part in whole.split(sizes, repeats):
        matrix = part.transposed if transposed else part
        place = MapPlace.of(matrix, shape)
        own = place.within(tensor)
        np.testing.assert_allclose(own.dense().numpy(), dense(matrix, flat), atol=1e-13)
        parts.append(place.spread(own, shape))
    np.testing.assert_allclose(side_by_side(parts).dense(), tensor.dense(), atol=1e-13)


@pytest.mark.parametrize(("rows", "columns"), [(3 * ROWS + 5, 7), (1, 40), (40, 1), (ROWS, 9)])
def test_a_product_has_the_same_bits_however_it_is_cut(rows: int, columns: int) -> None:
    change = random_factors(rows, columns, 3).to(torch.float32)
    whole = torch.zeros(rows * columns)
    add_product(whole, 0, change.left, change.right)
    torch.testing.assert_close(whole.view(rows, columns), change.dense())
    for size in (1, 13, columns, 5 * columns + 1):
        pieces = torch.zeros(rows * columns)
        for start in range(0, rows * columns, size):
            add_product(pieces[start : start + size], start, change.left, change.right)
        assert torch.equal(pieces, whole)


def test_inner_products_and_sums_are_those_of_the_matrices() -> None:
    changes = [random_factors(9, 6, rank, seed) for seed, rank in enumerate((1, 3, 0, 2))]
    whole = [c.dense() for c in changes]
    gram = gram_of(changes)
    for i, one in enumerate(whole):
        for j, other in enumerate(whole):
            assert gram.at(i, j) == pytest.approx(float((one * other).sum()), rel=1e-13, abs=1e-13)
    weights = [0.5, -2.0, 3.0, 1.0]
    summed = sum(w * m for w, m in zip(weights, whole, strict=True))
    torch.testing.assert_close(weighted_sum(changes, weights).dense(), summed)


@pytest.mark.parametrize("ridge", [0.0, 1e-14, 0.1, 1.0])
@pytest.mark.parametrize("ranks", [(2, 3), (1, 1, 1), (4, 0, 2), (6, 6)])
def test_covmerge_on_factors_is_covmerge(ridge: float, ranks: tuple[int, ...]) -> None:
    changes = [random_factors(8, 6, rank, seed) for seed, rank in enumerate(ranks)]
    weights = [1.0, 0.5, 2.0][: len(ranks)]
    live = [(d.dense(), w) for d, w in zip(changes, weights, strict=True) if d.rank]
    covariances = [d.mT @ d / d.square().sum() for d, _ in live]
    total = sum(w * d for d, w in live)
    products = sum(w * d @ c for (d, w), c in zip(live, covariances, strict=True))
    c = sum(w * c for (_, w), c in zip(live, covariances, strict=True))
    mu = ridge * float(c.trace()) / 6
    # A pseudo-inverse where there is no ridge to speak of.
    inverse = torch.linalg.pinv(c + mu * torch.eye(6, dtype=torch.float64), rtol=1e-11)
    if ridge == 1e-14:
        inverse = torch.linalg.pinv(c, rtol=1e-11)
    wanted = total + (products - total @ c) @ inverse
    found = merged_low_rank(changes, weights, ridge)
    assert found.rank <= sum(ranks)
    assert float((found.dense() - wanted).norm()) <= 1e-9 * float(wanted.norm())


def test_what_is_zero_stays_zero() -> None:
    nothing = [
        random_factors(8, 6, 0),
        Factors(torch.zeros(8, 2).double(), torch.ones(2, 6).double()),
    ]
    assert not merged_low_rank(nothing, [1.0, 1.0], 1.0).dense().any()
    step = add_low_rank(
        random_factors(8, 6, 2), nothing[0], alpha=0.5, variant="reference", tail_tol=None
    )
    torch.testing.assert_close(step.total.dense(), random_factors(8, 6, 2).dense())
