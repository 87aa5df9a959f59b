"""What the methods that join all changes to a map at once are for, on one map of tall or wide."""

from __future__ import annotations

import pytest
import torch
from merging import merged
from torch import Tensor

from mdm_kit.methods.contract import Method
from mdm_kit.methods.registry import methods

SHAPES = [(12, 12), (40, 9), (9, 40)]


def joined(name: str, changes: list[Tensor], **values: object) -> Tensor:
    """Merge changes to a base of zeros, all with the weight 1 where there are weights."""
    method: Method = methods()[name]
    own = {s.field: (s.default,) * len(changes) for s in method.params.specs() if s.per_model}
    return merged(method, method.params(**{**own, **values}), changes)


def random(shape: tuple[int, int], n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return list(torch.randn((n, *shape), generator=generator, dtype=torch.float64))


def apart(shape: tuple[int, int], n: int, rank: int) -> list[Tensor]:
    """Changes of a rank, whose rows and columns are orthogonal to all others'."""
    u, _, vt = torch.linalg.svd(random(shape, 1)[0], full_matrices=False)
    values = torch.linspace(3, 1, n * rank, dtype=torch.float64)
    parts = [slice(i * rank, (i + 1) * rank) for i in range(n)]
    return [(u[:, p] * values[p]) @ vt[p] for p in parts]


def assert_same(got: Tensor, want: Tensor) -> None:
    assert torch.allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_iso_c_makes_all_directions_equally_strong(shape: tuple[int, int]) -> None:
    changes = random(shape, 3)
    before = torch.linalg.svdvals(changes[0] + changes[1] + changes[2])
    after = torch.linalg.svdvals(joined("iso_c", changes))
    assert_same(after, before.mean().expand_as(after))


@pytest.mark.parametrize("shape", SHAPES)
def test_flattening_keeps_the_rank_and_the_sum_of_singular_values(shape: tuple[int, int]) -> None:
    changes = apart(shape, 2, 2)
    for name in ("iso_c", "iso_cts"):
        values = torch.linalg.svdvals(joined(name, changes))
        assert_same(values[:4], torch.linalg.svdvals(changes[0] + changes[1])[:4].mean().expand(4))
        assert float(values[4:].max()) < 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_tsv_m_adds_what_does_not_interfere(shape: tuple[int, int]) -> None:
    changes = apart(shape, 3, 3)
    assert_same(joined("tsv_m", changes), changes[0] + changes[1] + changes[2])


@pytest.mark.parametrize("shape", SHAPES)
def test_tsv_m_takes_equal_models_for_one_that_is_half_kept(shape: tuple[int, int]) -> None:
    """Their bases repeat one another, and what repeats is left out."""
    (change,) = random(shape, 1)
    u, s, vt = torch.linalg.svd(change, full_matrices=False)
    half = min(shape) // 2
    assert_same(joined("tsv_m", [change] * 2), (u[:, :half] * s[:half]) @ vt[:half])


@pytest.mark.parametrize("shape", SHAPES)
def test_nullspace_leaves_answers_to_protected_inputs_alone(shape: tuple[int, int]) -> None:
    first, second = random(shape, 2)
    vt = torch.linalg.svd(first).Vh[:4]
    got = joined("nullspace", [first, second], rank=4.0)
    assert_same(got @ vt.mT, first @ vt.mT)
    rest = torch.eye(shape[1], dtype=torch.float64) - vt.mT @ vt
    assert_same(got @ rest, (first + second) @ rest)
    assert_same(joined("nullspace", [first, second], energy=0.0), first + second)


@pytest.mark.parametrize("shape", SHAPES)
def test_svc_counts_what_all_models_say_once(shape: tuple[int, int]) -> None:
    (change,) = random(shape, 1)
    assert_same(joined("svc", [3 * change, change, change, change]), change)
    ours = apart(shape, 3, 2)
    assert_same(joined("svc", [ours[0] + ours[1] + ours[2], *ours]), ours[0] + ours[1] + ours[2])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["output", "input"])
def test_knots_averages_what_agrees_in_the_common_basis(shape: tuple[int, int], side: str) -> None:
    """Of models that go the same way the mean is left; one that does nothing has no say."""
    (change,) = random(shape, 1)
    assert_same(joined("knots", [change, 3 * change], side=side), 2 * change)
    assert_same(joined("knots", [change, torch.zeros_like(change)], side=side), change)
    assert not joined("knots", [change, change], side=side, density=(0.0, 0.0)).any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["iso_c", "iso_cts", "knots", "tsv_m"])
def test_rounding_of_stored_weights_is_no_direction(name: str, shape: tuple[int, int]) -> None:
    """Adapters of rank two, merged into float32 weights, are those in float64 weights."""
    base, *factors = random((shape[0], shape[1]), 4)
    changes = [0.1 * f[:, :2] @ f[:2] for f in factors]
    settings = {"density": (0.5,) * 3} if name == "knots" else {}

    def change(dtype: torch.dtype, **more: object) -> Tensor:
        stored = base.float().to(dtype)
        models = [(stored + c).to(dtype) for c in changes]
        own = {"weight": (1.0,) * 3, **settings, **more}
        method = methods()[name]
        return merged(method, method.params(**own), models, stored, out=torch.float64) - stored

    exact = change(torch.float64)
    size = torch.linalg.vector_norm(exact)
    assert torch.linalg.vector_norm(change(torch.float32) - exact) < 1e-4 * size
    raw = change(torch.float32, tail_tol=0.0)
    assert torch.linalg.vector_norm(raw - exact) > 1e-2 * size
