"""The streamed step of OPCM against dense float64, its laws, and its bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.opcm import projected
from torch import Tensor

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.projection import VARIANTS, Projection, Step
from mdm_kit.maths.spectral_costs import LINES, step_flops, step_memory
from mdm_kit.maths.strips import MatrixStrip

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(64, 64), (40, 150), (300, 24)]
THIN = [(1, 70), (70, 1), (1, 1)]
SPECTRA = ("gaussian", "1/i", "1/i²", "exponential", "low rank", "rank one", "repeated")


def matrix(shape: tuple[int, int], spectrum: str, seed: int) -> Tensor:
    """A float32 matrix of about unit norm with the singular values named."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    if spectrum != "gaussian":
        u, _, vh = torch.linalg.svd(x, full_matrices=False)
        i = torch.arange(1, len(vh if shape[0] >= shape[1] else u.mT) + 1, dtype=torch.float64)
        sigma = {
            "1/i": 1 / i,
            "1/i²": 1 / i**2,
            "exponential": 10 ** (-5.0 * (i - 1) / len(i)),
            "low rank": (i <= 6).double(),
            "rank one": (i <= 1).double(),
            "repeated": (2.0 - i % 2),
        }[spectrum]
        x = u * sigma @ vh
    return (x / x.norm()).float()


def changes(shape: tuple[int, int], spectrum: str, n: int) -> list[Tensor]:
    """Changes with a spectrum, correlated with one another."""
    own = [matrix(shape, spectrum, seed) for seed in range(n)]
    return [x + 0.3 * y for x, y in zip(own, [own[-1], *own], strict=False)]


def projection(total: Tensor, variant: str, alpha: float, tail_tol: float | None = 1e-7):
    return Projection(MatrixStrip(total), alpha=alpha, variant=variant, tail_tol=tail_tol)


def run(parts: Sequence[Tensor], variant: str, alpha: float) -> tuple[Tensor, list[Step]]:
    total = torch.zeros_like(parts[0])
    steps = projection(total, variant, alpha)
    return total, [steps.add(MatrixStrip(d), 0.0) for d in parts]


def norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x.double()))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("shape", "spectrum"),
    [*itertools.product(SHAPES, SPECTRA), *((s, "gaussian") for s in THIN)],
    ids=str,
)
def test_every_step_is_that_of_dense_float64(
    shape: tuple[int, int], spectrum: str, variant: str
) -> None:
    for alpha, n in ((0.2, 3), (0.5, 5), (1.0, 2)):
        total = torch.zeros(shape)
        steps = projection(total, variant, alpha)
        for d in changes(shape, spectrum, n):
            before = total.double()
            step = steps.add(MatrixStrip(d), 0.0)
            if step.margin < 10:
                continue
            want = projected(d, before, alpha=alpha, variant=variant)
            assert norm(total - (before + want).float()) <= 1e-5 * norm(d)
            assert step.change_energy == pytest.approx(norm(d) ** 2)
            assert step.kept_energy == pytest.approx(norm(want) ** 2, rel=1e-4, abs=1e-9)
            assert step.total_energy == pytest.approx(norm(total) ** 2)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("spectrum", ["gaussian", "1/i", "low rank", "rank one"])
def test_many_models_end_where_dense_float64_ends(spectrum: str, variant: str) -> None:
    """Steps magnify the errors of those before them, so these must be far below 1e-5."""
    parts = changes((60, 45), spectrum, 8)
    got, _ = run(parts, variant, 0.5)
    want = torch.zeros(60, 45, dtype=torch.float64)
    for d in parts:
        want = (want + projected(d, want, alpha=0.5, variant=variant)).float().double()
    assert norm(got - want) <= 1e-6 * norm(want)


@pytest.mark.parametrize("variant", ["reference", "paper"])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("shape", [(64, 64), (40, 150)], ids=str)
def test_what_is_kept_is_orthogonal_to_what_was_there(
    shape: tuple[int, int], spectrum: str, variant: str
) -> None:
    """Theorem 5.1; also of a change that is nearly all there already."""
    first, second = changes(shape, spectrum, 2)
    for d in (second, second + 300 * first):
        total = first.clone()
        projection(total, variant, 0.5).add(MatrixStrip(d), 0.0)
        kept = total.double() - first.double()
        stored = 2**-24 * norm(total) * norm(first)  # rounding of the sum is not of the projection
        product = abs(float((kept * first.double()).sum()))
        assert product <= 1e-6 * norm(kept) * norm(first) + stored


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    alpha=st.floats(0, 1.2),
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 99),
)
def test_a_matrix_on_its_side_gives_the_same_on_its_side(
    shape: tuple[int, int], alpha: float, variant: str, seed: int
) -> None:
    parts = [matrix(shape, "gaussian", seed + i) for i in range(3)]
    upright, steps = run(parts, variant, alpha)
    lying, others = run([d.mT for d in parts], variant, alpha)
    if shape[0] != shape[1]:
        assert torch.equal(lying, upright.mT)
    assert [(s.rank, s.live) for s in steps] == [(s.rank, s.live) for s in others]
    assert norm(lying - upright.mT) <= 1e-4 * norm(upright)


def test_the_first_change_is_taken_whole_and_so_is_one_after_zeros() -> None:
    d = matrix((30, 20), "gaussian", 0)
    total, (nothing, first) = run([torch.zeros_like(d), d], "reference", 0.5)
    assert nothing == Step(0, 0, 0.0, 0.0, 0.0, math.inf)
    assert torch.equal(total, d)
    assert first.change_energy == first.kept_energy == pytest.approx(norm(d) ** 2)
    assert first.total_energy == pytest.approx(norm(d) ** 2)


@pytest.mark.parametrize("variant", ["reference", "paper"])
def test_a_change_in_the_basis_of_the_sum_adds_nothing(variant: str) -> None:
    d = matrix((50, 50), "1/i", 1)
    total, (_, again) = run([d, d], variant, 0.5)
    assert again.kept_energy <= 1e-14 * again.change_energy
    assert torch.equal(total, d)


def test_with_the_whole_share_a_full_rank_sum_leaves_no_room() -> None:
    parts = [matrix((50, 20), "gaussian", s) for s in (1, 2)]
    _, (_, second) = run(parts, "paper", 1.0)
    assert (second.rank, second.live) == (20, 20)
    assert second.kept_energy <= 1e-10


def test_noise_below_the_edge_is_left_alone() -> None:
    """A low rank sum with and without noise keeps the same of a change, but for that noise."""
    u, _, vh = torch.linalg.svd(matrix((80, 60), "gaussian", 0), full_matrices=False)
    low = u[:, :6] * torch.tensor([1.0, 0.9, 0.7, 0.6, 0.4, 0.3]) @ vh[:6]
    noise, d = 1e-4 * matrix((80, 60), "gaussian", 9), matrix((80, 60), "gaussian", 5)
    edge = 2 * float(torch.linalg.matrix_norm(noise, 2))
    found = []
    for total, noise_edge in ((low.clone(), 0.0), (low + noise, edge), (low + noise, 0.0)):
        before = total.clone()
        step = projection(total, "reference", 0.5, None).add(MatrixStrip(d), noise_edge)
        found.append((total - before, step.live))
    (clean, six), (edged, also_six), (eaten, many) = found
    assert (six, also_six, many) == (6, 6, 60)
    assert norm(edged - clean) <= 1e-3 * norm(d) < norm(eaten - clean)


class Counted(MatrixStrip):
    """A strip that counts the lines it gave and gives them where they are aligned badly."""

    given = 0

    def lines(self, start: int, count: int) -> Tensor:
        self.given += count
        lines = super().lines(start, count)
        room = torch.empty(lines.numel() + 1)
        return room[1:].view(lines.shape).copy_(lines)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_reads_twice_and_the_first_once(variant: str) -> None:
    total = torch.zeros(2 * LINES + 10, 3)
    changes = [Counted(torch.randn(total.shape)) for _ in range(3)]
    strip = Counted(total)
    steps = Projection(strip, alpha=0.5, variant=variant, tail_tol=None)
    for d in changes:
        steps.add(d, 0.0)
    assert [d.given / len(total) for d in changes] == [1, 2, 2]
    assert strip.given <= len(total) + 2 * (LINES + 2 * len(total)) + 3


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(2 * LINES + 77, 9), (90, 70), (33, 300)], ids=str)
def test_a_stored_sum_goes_on_with_the_same_bits_wherever_its_lines_lie(
    shape: tuple[int, int], variant: str
) -> None:
    parts = changes(shape, "gaussian", 4)
    whole, steps = run(parts, variant, 0.5)
    total, found = torch.zeros(shape), []
    for d in parts:
        total = total.clone()
        again = Projection(Counted(total), alpha=0.5, variant=variant, tail_tol=1e-7)
        found.append(again.add(Counted(d), 0.0))
    assert torch.equal(total, whole)
    assert found == steps


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stops_before_the_sum_is_touched(bad: float) -> None:
    total = matrix((20, 10), "gaussian", 0)
    before, d = total.clone(), matrix((20, 10), "gaussian", 1)
    d[3, 4] = bad
    with pytest.raises(NotFiniteError, match="NaN"):
        projection(total, "reference", 0.5).add(MatrixStrip(d), 0.0)
    assert torch.equal(total, before)


def test_a_plan_knows_that_length_costs_time_but_no_memory() -> None:
    assert step_memory(30 * LINES, 512) == step_memory(LINES, 512) > step_memory(1024, 512)
    once, twice, thrice = (step_flops(i * LINES, 512) for i in (1, 2, 3))
    assert twice - once == pytest.approx(thrice - twice)
    assert twice - once > 4 * LINES * 512**2
    assert step_flops(512, 512) > 12 * 512**3
    assert step_memory(2300, 2300) > 6.2 * 8 * 2300**2


def test_empty_matrices_are_zero() -> None:
    for shape in ((0, 0), (5, 0), (0, 5)):
        _, steps = run([torch.zeros(shape)] * 2, "reference", 0.5)
        assert steps == [Step(0, 0, 0.0, 0.0, 0.0, math.inf)] * 2


def test_what_does_not_fit_and_what_is_no_variant_are_refused() -> None:
    total = matrix((20, 10), "gaussian", 0)
    with pytest.raises(ValueError, match="20 x 1 "):
        projection(total, "reference", 0.5).add(MatrixStrip(total[:, :1]), 0.0)
    with pytest.raises(ValueError, match="found theirs"):
        projection(total, "theirs", 0.5)
