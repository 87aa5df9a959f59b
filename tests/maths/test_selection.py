"""Exact selection against sorting, whatever the pivots, the tiles and the ties."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.layouts import MAGNITUDE, SPREAD
from mdm_kit.maths.select_tile import EVERYTHING, Scoring, select_tile
from mdm_kit.maths.selection import Selection
from mdm_kit.maths.stored import Stored

KINDS = ("normal", "few values", "mostly zero", "all equal", "heavy tail", "sorted")


def scores(kind: str, n: int, seed: int, real: type) -> NDArray[np.floating]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    if kind == "few values":
        x = rng.integers(-3, 4, n) * 0.25
    elif kind == "mostly zero":
        x = np.where(rng.random(n) < 0.9, 0.0, x)
    elif kind == "all equal":
        x = np.full(n, -0.5)
    elif kind == "heavy tail":
        x = x / rng.random(n) ** 3
    elif kind == "sorted":
        x = np.sort(np.abs(x))
    return np.ascontiguousarray(x.astype(real))


def kept_by_sorting(magnitudes: NDArray[np.floating], rank: int) -> NDArray[np.bool_]:
    kept = np.zeros(len(magnitudes), bool)
    kept[np.argsort(-magnitudes, kind="stable")[: max(0, rank)]] = True
    return kept


def kept_by(selection: Selection, magnitudes: NDArray[np.floating]) -> NDArray[np.bool_]:
    kept = magnitudes > selection.cut.limit
    for block, ties in enumerate(selection.cut.ties):
        equal = np.flatnonzero(
            magnitudes[block * BLOCK : (block + 1) * BLOCK] == selection.cut.limit
        )
        kept[block * BLOCK + equal[:ties]] = True
    return kept


def run(
    selection: Selection,
    x: NDArray[np.floating],
    tile: int,
    *,
    sample: bool,
    others: Sequence[NDArray[np.floating]] = (),
    order: int = 1,
) -> int:
    """Solve a selection over tiles; return how many passes it took."""
    wide, n = x.dtype == np.float64, len(x)
    inputs = [np.zeros_like(x), x, *others]

    def part(start: int, count: int, *, sample: bool):
        dtypes = ["F64" if wide else "F32"] * len(inputs)
        at = [a[start:].ctypes.data for a in inputs]
        return select_tile(
            Stored(at, dtypes, start, count, wide),
            scoring=Scoring(SPREAD if others else MAGNITUDE),
            models=[0],
            pivots=[selection.pivots],
            sample=sample,
        )

    starts = list(range(0, n, tile))[::order]
    if sample:
        parts = [part(s, min(tile, n - s), sample=True)[1][0] for s in range(0, n, tile)]
        selection.sampled(np.concatenate(parts))
    for passes in range(1, 100):
        for start in starts:
            counts, found, whole = part(start, min(tile, n - start), sample=False)
            selection.add(start, counts[:, 0], found[0], whole[0])
        if selection.solve():
            return passes
    raise AssertionError("it never ends")


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_keeps_what_sorting_keeps_ties_to_the_lowest_index(kind: str, real: type) -> None:
    n = 5 * BLOCK + 777
    x = scores(kind, n, 1, real)
    for share in (0.0, 1e-6, 0.01, 0.2, 0.5, 0.77, 0.999, 1.0):
        selection = Selection(n, rank=int(share * n), wide=real is np.float64)
        run(selection, x, 2 * BLOCK, sample=True)
        assert (kept_by(selection, np.abs(x)) == kept_by_sorting(np.abs(x), int(share * n))).all()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 3 * BLOCK),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
    blocks=st.integers(1, 4),
    order=st.sampled_from([1, -1]),
)
def test_any_size_any_rank_any_tiles_in_any_order(
    kind: str, n: int, share: float, seed: int, blocks: int, order: int
) -> None:
    x = scores(kind, n, seed, np.float32)
    selection = Selection(n, rank=round(share * n), wide=False)
    run(selection, x, blocks * BLOCK, sample=False, order=order)
    assert (kept_by(selection, np.abs(x)) == kept_by_sorting(np.abs(x), round(share * n))).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "pivots",
    [EVERYTHING, (-1.0, 0.0), (5.0, 6.0), (0.0, 1e-30), (1e30, math.inf), (0.25, 0.25), (0.1, 3.0)],
)
def test_wrong_pivots_cost_passes_and_change_nothing(
    kind: str, pivots: tuple[float, float]
) -> None:
    n = 4 * BLOCK + 5
    x = scores(kind, n, 2, np.float32)
    for rank in (1, n // 3, n - 1):
        selection = Selection(n, rank=rank, wide=False)
        selection.pivots = pivots
        run(selection, x, BLOCK, sample=False)
        assert (kept_by(selection, np.abs(x)) == kept_by_sorting(np.abs(x), rank)).all()


@pytest.mark.parametrize("kind", ["normal", "few values", "heavy tail"])
def test_one_pass_is_enough_after_a_sample(kind: str) -> None:
    n = 20 * BLOCK
    x = scores(kind, n, 3, np.float32)
    for share in (0.001, 0.1, 0.5, 0.9):
        selection = Selection(n, rank=int(share * n), wide=False)
        assert run(selection, x, 4 * BLOCK, sample=True) == 1


def test_a_share_of_what_is_not_zero() -> None:
    n = 5 * BLOCK
    x, y = scores("mostly zero", n, 4, np.float32), scores("mostly zero", n, 5, np.float32)
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    mean = (x64 + y64) / 2
    spread = (((x64 - mean) ** 2 + (y64 - mean) ** 2) / 2).astype(np.float32)
    alive = int(np.count_nonzero(spread))
    selection = Selection(n, share=0.3, wide=False)
    run(selection, x, 2 * BLOCK, sample=True, others=[y])
    assert (kept_by(selection, spread) == kept_by_sorting(spread, int(0.3 * alive))).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_ends_the_search(bad: float) -> None:
    """The pass that uses the elements says so; here it must only come to an end."""
    n = 2 * BLOCK
    x = scores("normal", n, 6, np.float32)
    x[7] = bad
    x[BLOCK:] = bad
    for rank in (1, n // 4, n - 1):
        run(Selection(n, rank=rank, wide=False), x, BLOCK, sample=False)
