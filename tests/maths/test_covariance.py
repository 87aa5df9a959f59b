"""Covariance sums against the dense formula, and their laws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference.covmerge import covmerge, interference

from mdm_kit.errors import IntegrityError, MisfitError, NotFiniteError
from mdm_kit.maths.covariance import Added, Sums, add, grids_of, solve
from mdm_kit.maths.covariance_costs import (
    NEARLY_NO_RIDGE,
    ROWS,
    by_eigenvectors,
    by_rows,
    sums_nbytes,
)
from mdm_kit.maths.grid import n_triangle

Matrix = NDArray[np.float64]

SHAPES = ((1, 1), (1, 7), (7, 1), (40, 40), (90, 30), (30, 90), (8, 12), (ROWS + 60, 12))
PANELLED = ((270, 260), (30, 300))
"""More columns than a panel has, either way to make d C."""
WEIGHTS = (1.0, 0.7, 1.3, 0.4)
RMS = 0.02


class Held:
    """A delta in memory."""

    def __init__(self, d: Matrix, dtype: torch.dtype = torch.float32) -> None:
        self._d = torch.from_numpy(d).to(dtype)
        self.rows, self.columns = d.shape

    def lines(self, start: int, count: int) -> torch.Tensor:
        return self._d[start : start + count]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def family(
    shape: tuple[int, int], *, seed: int = 0, k: int = 4, rank: int = 0, size: float = 1e-2
) -> list[Matrix]:
    """Deltas of `size` times the base's rms, exact in float32; of low rank if asked."""
    rng = np.random.default_rng(seed)
    deltas = []
    for _ in range(k):
        d = rng.standard_normal(shape)
        if rank:
            d = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
        deltas.append((RMS * size * d).astype(np.float32).astype(np.float64))
    return deltas


def empty(shape: tuple[int, int]) -> Sums:
    grids = grids_of(5 * RMS)
    triangle = np.zeros(n_triangle(shape[1]), np.int64)
    return Sums(np.zeros(shape, np.int64), np.zeros(shape, np.int64), triangle, *grids)


def summed(deltas: Sequence[Matrix], weights: Sequence[float] = WEIGHTS) -> Sums:
    sums = empty(deltas[0].shape)
    for d, w in zip(deltas, weights, strict=False):
        add(Held(d), w, sums)
    return sums


def solved(sums: Sums, ridge: float) -> Matrix:
    return np.concatenate([part.rows.numpy().copy() for part in solve(sums, ridge)])


def merged(deltas: Sequence[Matrix], weights: Sequence[float], ridge: float) -> Matrix:
    return solved(summed(deltas, weights), ridge)


def far(got: Matrix, want: Matrix) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def bits(sums: Sums) -> bytes:
    return sums.deltas.tobytes() + sums.products.tobytes() + sums.gram.tobytes()


@pytest.mark.parametrize(
    ("shape", "size"),
    [*itertools.product(SHAPES, (1e-5, 1e-2, 1.0)), *((shape, 1e-5) for shape in PANELLED)],
)
@pytest.mark.parametrize("rank", [0, 3])
def test_agrees_with_the_dense_formula(shape: tuple[int, int], rank: int, size: float) -> None:
    deltas = family(shape, rank=rank, size=size)
    sums = summed(deltas)
    for ridge in (1.0, 0.1):
        assert far(solved(sums, ridge), covmerge(deltas, WEIGHTS, ridge)) <= 1e-8


@pytest.mark.parametrize("shape", [*SHAPES, PANELLED[1]])
def test_pseudo_inverse_agrees_with_least_squares(shape: tuple[int, int]) -> None:
    """Where no direction lies near the cut: all models together fill the space, or few do."""
    for k, rank in ((4, 0), (2, 2)):
        deltas = family(shape, k=k, rank=rank, size=1e-3)
        want = covmerge(deltas, WEIGHTS[:k], 0.0)
        assert far(merged(deltas, WEIGHTS[:k], 0.0), want) <= 1e-6


@pytest.mark.parametrize("shape", [(48, 40), (20, 64), (ROWS + 9, 33)])
def test_any_order_gives_the_same_bits(shape: tuple[int, int]) -> None:
    models = list(zip(family(shape), WEIGHTS, strict=True))
    first = bits(summed(*zip(*models, strict=True)))
    for order in itertools.permutations(models):
        assert bits(summed(*zip(*order, strict=True))) == first


@pytest.mark.parametrize("shape", [(48, 40), (20, 64), (ROWS + 9, 33), (1, 5), (5, 1)])
@pytest.mark.parametrize("gone", range(4))
def test_model_taken_out_leaves_the_bits_of_sums_that_never_held_it(
    shape: tuple[int, int], gone: int
) -> None:
    deltas = family(shape, size=0.3)
    sums = summed(deltas)
    assert add(Held(deltas[gone]), WEIGHTS[gone], sums, sign=-1).energy > 0
    rest = [i for i in range(4) if i != gone]
    fewer = summed([deltas[i] for i in rest], [WEIGHTS[i] for i in rest])
    assert bits(sums) == bits(fewer)
    assert solved(sums, 1.0).tobytes() == solved(fewer, 1.0).tobytes()
    for i in rest:
        add(Held(deltas[i]), WEIGHTS[i], sums, sign=-1)
    assert not any(bits(sums))


@pytest.mark.parametrize("shape", [(48, 40), (20, 61)])
def test_bits_do_not_depend_on_where_numbers_lie(shape: tuple[int, int]) -> None:
    """Sums in views of bytes and with gaps, deltas off their alignment and in float64."""
    deltas = family(shape)
    plain = summed(deltas)
    wide = np.zeros((shape[0], 2 * shape[1] + 1), np.int64)
    raw = np.zeros(8 * shape[0] * shape[1] + 8, np.uint8)
    odd = Sums(
        wide[:, 1::2],
        raw[5:-3].view(np.int64).reshape(shape),
        np.zeros(3 * n_triangle(shape[1]), np.int64)[::3],
        *grids_of(5 * RMS),
    )
    for d, w in zip(deltas, WEIGHTS, strict=True):
        room = torch.zeros(d.size + 1, dtype=torch.float64)[1:].view(shape)
        change = Held(d, torch.float64)
        change._d = room.copy_(change._d)
        add(change, w, odd)
    assert bits(odd) == bits(plain)
    assert solved(odd, 0.5).tobytes() == solved(plain, 0.5).tobytes()


@pytest.mark.parametrize("ridge", [1.0, 0.0])
def test_sums_are_only_read_by_solving(ridge: float) -> None:
    sums = summed(family((30, 20)))
    before = bits(sums)
    first = solved(sums, ridge)
    assert bits(sums) == before
    assert solved(sums, ridge).tobytes() == first.tobytes()


@pytest.mark.parametrize("ridge", [1.0, 0.01, 0.0])
@pytest.mark.parametrize("shape", [(30, 30), (50, 20), (12, 40)])
def test_one_model_of_weight_one_gives_itself_whatever_the_ridge(
    shape: tuple[int, int], ridge: float
) -> None:
    """P + μA = d (C + μI)."""
    (d,) = family(shape, k=1)
    assert far(merged([d], [1.0], ridge), d) <= (1e-9 if ridge else 1e-7)


def test_weight_of_one_model_counts_where_the_ridge_outweighs_its_covariance() -> None:
    """M = d (C + w·r/n) (C + r/n)⁻¹: d for a small ridge, w·d for a large one."""
    (d,) = family((40, 20), k=1)
    c, weight = d.T @ d / np.sum(d * d), 0.3
    for ridge in (1e-7, 1.0, 1e7):
        share = ridge / 20 * np.eye(20)
        want = d @ (c + weight * share) @ np.linalg.inv(c + share)
        assert far(merged([d], [weight], ridge), want) <= 1e-8
    assert far(merged([d], [weight], 1e-7), d) <= 1e-5
    assert far(merged([d], [weight], 1e7), weight * d) <= 1e-5


@pytest.mark.parametrize("ridge", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("n_out", [30, 9])
def test_models_of_weight_one_with_orthogonal_rows_are_summed(n_out: int, ridge: float) -> None:
    """Each is its own merge there, so that any ridge pulls towards what it already is."""
    rng = np.random.default_rng(2)
    basis, _ = np.linalg.qr(rng.standard_normal((24, 24)))
    deltas = [
        1e-3 * rng.standard_normal((n_out, 6)) @ basis[:, 6 * i : 6 * i + 6].T for i in range(4)
    ]
    sums = empty((n_out, 24))
    for d in deltas:
        add(Held(d, torch.float64), 1.0, sums)
    assert far(solved(sums, ridge), sum(deltas)) <= 1e-9


@pytest.mark.parametrize("shape", [(30, 20), (10, 24)])
def test_models_with_one_covariance_are_averaged(shape: tuple[int, int]) -> None:
    """d, turned on its output side and scaled, has the same C."""
    rng = np.random.default_rng(3)
    d = 1e-3 * rng.standard_normal(shape)
    turns = [np.linalg.qr(rng.standard_normal((shape[0],) * 2))[0] for _ in range(4)]
    deltas = [s * q @ d for s, q in zip((1.0, 2.0, 0.5, 1.0), turns, strict=True)]
    sums = empty(shape)
    for x, w in zip(deltas, WEIGHTS, strict=True):
        add(Held(x, torch.float64), w, sums)
    mean = sum(w * x for x, w in zip(deltas, WEIGHTS, strict=True)) / sum(WEIGHTS)
    assert far(solved(sums, 0.0), mean) <= 1e-8
    if shape[0] > shape[1]:
        assert far(solved(sums, 1e-8), mean) <= 1e-5


def test_more_weight_for_all_scales_the_merge_only_as_far_as_the_anchor_counts() -> None:
    """M is homogeneous: A, P and C double, and M with them stays between mean and sum."""
    deltas = family((40, 24))
    doubled = merged(deltas, [2 * w for w in WEIGHTS], 1.0)
    assert far(doubled, covmerge(deltas, [2 * w for w in WEIGHTS], 1.0)) <= 1e-9
    assert far(merged(deltas, [2 * w for w in WEIGHTS], 0.0), merged(deltas, WEIGHTS, 0.0)) <= 1e-9


@pytest.mark.parametrize("shape", [(9, 6), (4, 9)])
def test_model_like_its_base_brings_nothing(shape: tuple[int, int]) -> None:
    sums = summed(family(shape))
    before = bits(sums)
    assert add(Held(np.zeros(shape)), 1.0, sums) == Added(0.0, 0.0)
    assert add(Held(np.full(shape, 1e-150), torch.float64), 1.0, sums) == Added(0.0, 0.0)
    assert bits(sums) == before


@pytest.mark.parametrize("ridge", [1.0, 0.0])
def test_without_a_change_the_merge_is_zero(ridge: float) -> None:
    sums = empty((5, 4))
    add(Held(np.zeros((5, 4))), 1.0, sums)
    assert not solved(sums, ridge).any()


@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (ROWS + 3, 6)])
def test_facts_are_those_of_the_delta(shape: tuple[int, int]) -> None:
    (d,) = family(shape, k=1)
    got = add(Held(d), 0.5, empty(shape))
    assert math.isclose(got.energy, np.sum(d * d), rel_tol=1e-12)
    assert math.isclose(got.at_stake, np.sum((d @ d.T) ** 2) / np.sum(d * d), rel_tol=1e-12)


@pytest.mark.parametrize("ridge", [1.0, 0.1, 0.0])
@pytest.mark.parametrize("shape", [(40, 24), (16, 24), (ROWS + 40, 10)])
def test_interference_left_is_what_was_at_stake_less_what_was_saved(
    shape: tuple[int, int], ridge: float
) -> None:
    deltas = family(shape)
    sums = empty(shape)
    stake = sum(w * add(Held(d), w, sums).at_stake for d, w in zip(deltas, WEIGHTS, strict=True))
    saved = math.fsum(part.saved for part in solve(sums, ridge))
    want = interference(covmerge(deltas, WEIGHTS, ridge), deltas, WEIGHTS)
    assert abs(stake - saved - want) <= 1e-7 * stake


@pytest.mark.parametrize("shape", [(9, 6), (4, 9)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_delta_that_is_not_finite_is_refused_and_leaves_the_sums(
    shape: tuple[int, int], bad: float
) -> None:
    sums = summed(family(shape))
    before = bits(sums)
    d = np.ones(shape)
    d[-1, -1] = bad
    with pytest.raises(NotFiniteError):
        add(Held(d, torch.float64), 1.0, sums)
    assert bits(sums) == before


@pytest.mark.parametrize("shape", [(9, 6), (4, 9)])
def test_what_is_no_fine_tune_of_the_base_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(MisfitError, match="is it a fine-tune of this base"):
        add(Held(np.full(shape, 1e6)), 1.0, empty(shape))


@pytest.mark.parametrize("rank", [0, 3])
def test_tiny_ridge_is_as_good_as_none_whichever_way_it_is_solved(rank: int) -> None:
    deltas = family((40, 20), rank=rank, k=2)
    sums = summed(deltas)
    want = covmerge(deltas, WEIGHTS[:2], 0.0)
    border = NEARLY_NO_RIDGE * 20 * math.sqrt(20)
    for ridge in (1e-30, 1e-2 * border, border, 2 * border):
        assert by_eigenvectors(20, ridge) == (ridge <= border)
        assert far(solved(sums, ridge), want) <= 1e-5


@pytest.mark.parametrize("ridge", [1.0, 0.0])
def test_sums_a_stranger_was_taken_out_of_are_refused(ridge: float) -> None:
    first, second, stranger = family((30, 20), k=3, rank=2)
    sums = summed([first, second])
    add(Held(stranger), 1.0, sums, sign=-1)
    with pytest.raises(IntegrityError, match="taken out that was not in them"):
        solved(sums, ridge)


@pytest.mark.parametrize("shape", [(9, 6), (4, 9)])
def test_sums_are_as_large_as_planned(shape: tuple[int, int]) -> None:
    assert len(bits(empty(shape))) == sums_nbytes(*shape)


def test_shapes_here_take_both_ways() -> None:
    assert {by_rows(*shape) for shape in SHAPES} == {by_rows(*s) for s in PANELLED} == {True, False}
