"""Methods with rules against dense float64 references, small and in tiles, with ties and zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from merging import merged
from reference import rules as ref
from reference.dense import assert_accurate
from reference.philox import number
from torch import Tensor

from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.methods.contract import MethodParams
from mdm_kit.methods.registry import methods
from mdm_kit.run.course import Course, Stage
from mdm_kit.run.drawing import key_of

SHAPES = [(), (1,), (40,), (9, 17), (3, 5, 7), (2, 3, 4, 5), (1, 50), (50, 1)]
WEIGHTS = (0.25, 0.5, -0.125)
"""Powers of two: no rounding decides an election that ends in a draw."""
BIG = (300, 701)  # more than three blocks
TILE = 65_536


def family(
    shape: tuple[int, ...], k: int, dtype: torch.dtype = torch.float32, size: float = 0.02
) -> tuple[Tensor, list[Tensor]]:
    """A base and k models near it; for bfloat16 many changes are zero or equal."""
    g = torch.Generator().manual_seed(17 * k + len(shape))
    base = torch.randn(shape, generator=g, dtype=torch.float64)
    steps = [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(k)]
    return base.to(dtype), [(base + size * s).to(dtype) for s in steps]


def given(name: str, k: int, **values: Any) -> MethodParams:
    """Parameters by their names in a recipe; what is not said has its default."""
    found = {}
    for spec in methods()[name].params.specs():
        value = values.pop(spec.name, spec.default)
        if spec.per_model and not isinstance(value, tuple):
            value = (value,) * k
        found[spec.field] = value
    assert not values, values
    return methods()[name].params(**found)


def both(
    name: str,
    want: Callable[[Tensor, list[Tensor]], Tensor],
    shape: tuple[int, ...],
    k: int,
    dtype: torch.dtype,
    size: float = 0.02,
    *,
    with_base: bool = True,
    **values: Any,
) -> None:
    base, models = family(shape, k, dtype, size)
    p = given(name, k, **values)
    got = merged(methods()[name], p, models, base if with_base else None)
    expected = want(base, models)
    start = base if with_base else models[0]
    change = expected - start.double()
    spread = sum((m.double().abs() for m in models), base.double().abs())
    assert_accurate(got, expected, change, spread)
    tiled = merged(methods()[name], p, models, base if with_base else None, tile=TILE)
    assert torch.equal(tiled, got), "tiles change bits"


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
sizes = pytest.mark.parametrize("shape", [*SHAPES, BIG], ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


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
@sizes
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
def test_slerp(shape: tuple[int, ...], dtype: torch.dtype, t: float, size: float) -> None:
    if dtype is torch.float16 and size > 1:
        pytest.skip("beyond float16 where tensors are far apart")
    both("slerp", lambda b, m: ref.slerp(b, m[0], t), shape, 1, dtype, size, t=t)


@sizes
@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("dim", [None, -1, 0])
def test_nuslerp(shape: tuple[int, ...], with_base: bool, dim: int | None) -> None:
    if not shape and dim is not None:
        pytest.skip("a scalar has no axis")

    def want(base: Tensor, models: list[Tensor]) -> Tensor:
        if not with_base:
            return ref.nuslerp(models[0].double(), models[1].double(), 0.25, dim)
        a, b = ref.deltas(base, models)
        return base.double() + ref.nuslerp(a, b, 0.25, dim)

    both(
        "nuslerp",
        want,
        shape,
        2,
        torch.float32,
        1.0,
        with_base=with_base,
        weight=(0.6, 0.2),
        nuslerp_flatten=dim is None,
        nuslerp_row_wise=dim == 0,
    )


@sizes
@pytest.mark.parametrize("with_base", [True, False])
def test_multislerp(shape: tuple[int, ...], with_base: bool) -> None:
    if shape in ((), (1,)):
        pytest.skip("directions of single numbers are signs, which may cancel")

    def want(base: Tensor, models: list[Tensor]) -> Tensor:
        if not with_base:
            return ref.multislerp(models, (0.3, 0.6, 0.2))
        return base.double() + ref.multislerp(ref.deltas(base, models), (0.3, 0.6, 0.2))

    weight = (0.3, 0.6, 0.2)
    both("multislerp", want, shape, 3, torch.float32, 0.5, with_base=with_base, weight=weight)


@dtypes
@sizes
@pytest.mark.parametrize("size", [0.02, 0.7])
def test_karcher(shape: tuple[int, ...], dtype: torch.dtype, size: float) -> None:
    if shape in ((), (1,)):
        pytest.skip("directions of single numbers are signs, which may cancel")
    both("karcher", lambda _, m: ref.karcher(m), shape, 3, dtype, size, with_base=False)


@dtypes
@sizes
@pytest.mark.parametrize("rows", [True, False])
def test_model_stock(shape: tuple[int, ...], dtype: torch.dtype, rows: bool) -> None:
    g = torch.Generator().manual_seed(5)
    base = torch.randn(shape, generator=g, dtype=torch.float64)
    common = torch.randn(shape, generator=g, dtype=torch.float64)
    own = [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(3)]
    models = [(base + 0.1 * (common + o)).to(dtype) for o in own]
    base = base.to(dtype)
    want = ref.model_stock(base, models, rows=rows)
    got = merged(methods()["model_stock"], given("model_stock", 3, filter_wise=rows), models, base)
    assert_accurate(got, want, want - base.double(), base.double().abs() + 1)


@dtypes
@sizes
@pytest.mark.parametrize("t", [0.0, 0.005, 1.0])
def test_nearswap(shape: tuple[int, ...], dtype: torch.dtype, t: float) -> None:
    both("nearswap", lambda b, m: ref.nearswap(b, m[0], t), shape, 1, dtype, t=t)


@dtypes
@sizes
def test_ram(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    both("ram", lambda b, m: ref.ram(b, m, 0.02), shape, 3, dtype, epsilon=0.02)


@dtypes
@sizes
def test_ramplus(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = {"epsilon": 0.02, "r": 0.7, "alpha": 0.6}
    both("ramplus_tl", lambda b, m: ref.ram(b, m, 0.02, 0.7, 0.6), shape, 3, dtype, **values)


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


def test_unchanged_tensors_stay_whatever_the_sphere_says() -> None:
    base = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    p = given("multislerp", 3, weight=(0.2, 0.3, 0.5))
    assert torch.equal(merged(methods()["multislerp"], p, [base] * 3, base), base)
    assert torch.equal(
        merged(methods()["model_stock"], given("model_stock", 3), [base] * 3, base), base
    )


def test_directions_that_cancel_are_refused_in_words() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    p = given("multislerp", 3, weight=(0.5, 0.25, 0.25))
    with pytest.raises(MisfitError, match="w: the weighted directions of the models cancel"):
        merged(methods()["multislerp"], p, [a, -a, -a])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "ties",
        "dare_ties",
        "della",
        "breadcrumbs",
        "sce",
        "ram",
        "slerp",
        "arcee_fusion",
        "nearswap",
    ],
)
@pytest.mark.parametrize("tile", [None, TILE])
def test_what_is_no_number_stops_the_merge_even_where_it_would_be_dropped(
    bad: float, name: str, tile: int | None
) -> None:
    method = methods()[name]
    k = min(2, method.max_models or 2)
    base, models = family(BIG, k)
    models[-1][211, 100] = bad
    values: dict[str, Any] = {s.name: 0.5 for s in method.params.specs() if s.required}
    values |= {"density": 0.1} if any(s.name == "density" for s in method.params.specs()) else {}
    values |= {"epsilon": 0.05} if name == "della" else {}
    with pytest.raises(NotFiniteError, match=r"w: .*(m\d|nan|inf)"):
        merged(method, given(name, k, **values), models, base, tile=tile)


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


def test_an_error_while_settling_is_everybody_s() -> None:
    """Not replaced by what a second try finds."""
    course = course_with_a_failing_stage()
    for _ in range(3):
        with pytest.raises(MisfitError, match="it failed"):
            course.settle(1, lambda *_: None)  # type: ignore[arg-type, return-value]


def course_with_a_failing_stage() -> Course:
    class Failing(Stage):
        tries = 0

        def read(self, inputs: Any, start: int) -> None: ...

        def settle(self, borrow: Any) -> None:
            assert not self.tries
            self.tries += 1
            raise MisfitError("it failed")

    class Only(Course):
        def fill(self, *args: Any, **how: Any) -> bool:
            return True

    stage = Failing(1)
    stage.done(1)
    return Only(None, [stage])  # type: ignore[arg-type]
