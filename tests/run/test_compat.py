"""`--compat mergekit`: laws of its merges; that the bits are mergekit's is in tests/parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compat_cases import DIALECT, memory, merged, one, text
from families import read_model
from merged_families import promised
from reference.philox import number

import mdm_kit
from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import refusals
from mdm_kit.recipe import read_recipe_text
from mdm_kit.run.compat_methods import ARITHMETIC
from mdm_kit.run.drawing import key_of
from mdm_kit.sources import MemorySource


def test_it_has_every_method_of_the_dialect_and_no_other() -> None:
    assert sorted(ARITHMETIC) == DIALECT
    recipe = read_recipe_text(text("ties", ["org/a"], "org/base")).require()
    assert [n for n, m in methods().items() if not refusals(recipe, m)] == DIALECT


@pytest.mark.parametrize("name", DIALECT)
def test_bits_do_not_depend_on_threads_or_memory(name: str, tmp_path: Path) -> None:
    recipe, given = memory(name)
    seen = []
    for i, (threads, nbytes) in enumerate([(1, 2_000_000_000), (2, 1), (5, 1)]):
        out = tmp_path / str(i)
        mdm_kit.merge(
            recipe, out, sources=given, compat="mergekit", threads=threads, memory_nbytes=nbytes
        )
        seen.append(promised(out))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("name", DIALECT)
def test_it_is_near_the_merge_without(name: str, tmp_path: Path) -> None:
    """Steps are rounded to 16 bits, no more: a wrong formula would be far off."""
    recipe, given = memory(name, {"w": ((40, 37), torch.bfloat16)}, size=0.5)
    got = merged(f"{recipe}out_dtype: float64\n", tmp_path / "compat", given)["w"]
    mdm_kit.merge(f"{recipe}out_dtype: float64\n", tmp_path / "ours", sources=given)
    want = read_model(tmp_path / "ours")["w"]
    # A chosen element may be another one where rounding makes equals of neighbours.
    away = ((got - want).abs() > 0.05 * want.abs() + 0.05).double().mean()
    assert away < 0.02, float(away)


def test_every_step_is_rounded_to_the_working_dtype(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(1)
    base, a, b = (torch.randn(500, generator=g).bfloat16() for _ in range(3))
    recipe = (
        "merge_method: task_arithmetic\nbase_model: org/base\nparameters: {lambda: 0.7}\nmodels:\n"
        "  - {model: org/a, parameters: {weight: 0.3}}\n"
        "  - {model: org/b, parameters: {weight: 0.9}}\n"
    )
    got = one({"a": a, "b": b, "base": base}, recipe, tmp_path / "out")
    steps = [(x - base) * torch.tensor(w).bfloat16() for x, w in ((a, 0.3), (b, 0.9))]
    total = (steps[0].float() + steps[1].float()).bfloat16() * 0.7
    assert torch.equal(got, base + total)


def test_dtype_is_that_of_the_arithmetic(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(1)
    a, base = torch.randn(500, generator=g), torch.randn(500, generator=g)
    recipe = text("task_arithmetic", ["org/a"], "org/base", more="dtype: float16")
    got = one({"a": a, "base": base}, recipe, tmp_path / "out")
    expected = base.half() + (a.half() - base.half()) * torch.tensor(0.4).half()
    assert torch.equal(got, expected)
    with_out = f"{recipe}out_dtype: float32\n"
    assert torch.equal(one({"a": a, "base": base}, with_out, tmp_path / "f"), expected.float())


@pytest.mark.parametrize(
    ("name", "dtypes", "out"),
    [
        ("ties", "", ["BF16", "F32"]),
        ("ties", "dtype: float16", ["F16", "F16"]),
        ("arcee_fusion", "", ["F32", "F32"]),
        ("arcee_fusion", "dtype: float64", ["F64", "F64"]),
        ("ramplus_tl", "out_dtype: bfloat16", ["BF16", "BF16"]),
    ],
)
def test_the_result_has_the_dtype_mergekit_leaves_it_in(
    name: str, dtypes: str, out: list[str]
) -> None:
    """Its arcee_fusion and ramplus_tl have a step in float32 and stay there."""
    same, other = torch.zeros(4).bfloat16(), torch.zeros(4)
    given = {
        "org/a": MemorySource.from_tensors("a", {"same": same, "other": other}),
        "org/base": MemorySource.from_tensors("b", {"same": same, "other": other.half()}),
    }
    recipe = text(name, ["org/a"], "org/base", more=dtypes)
    with mdm_kit.plan(recipe, sources=given, compat="mergekit") as plan:
        by_name = {w.name: w.dtype for w in plan.writes}
    assert [by_name["same"], by_name["other"]] == out


def test_equal_magnitudes_go_to_the_lowest_index(tmp_path: Path) -> None:
    model = torch.tensor([1.0, -1.0, 2.0, 1.0, 1.0, -1.0, 0.5, 1.0])
    recipe = (
        "merge_method: METHOD\nbase_model: org/base\nmodels:\n"
        "  - {model: org/m, parameters: {weight: 1.0, density: 0.5EXTRA}}\n"
    )
    given = {"m": model, "base": torch.zeros(8)}
    ties = recipe.replace("METHOD", "ties").replace("EXTRA", "")
    crumbs = recipe.replace("METHOD", "breadcrumbs").replace("EXTRA", ", gamma: 0.25")
    assert one(given, ties, tmp_path / "a").tolist() == [1.0, -1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert one(given, crumbs, tmp_path / "b").tolist() == [0, -1.0, 0, 1.0, 1.0, -1.0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_draws_are_those_of_seed_and_names(dtype: torch.dtype, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(1)
    base, a = (torch.randn(61, 50, generator=g).to(dtype) for _ in range(2))
    recipe = (
        "merge_method: dare_linear\nbase_model: org/base\nseed: 7\nparameters: {rescale: false}\n"
        "models:\n  - {model: org/a, parameters: {weight: 1.0, density: 0.3}}\n"
    )
    got = one({"a": a, "base": base}, recipe, tmp_path / "out")
    key = key_of(7, "w", "a")
    drawn = torch.tensor([number(key, e) for e in range(a.numel())]).reshape(a.shape)
    chance = float(torch.tensor(0.3).to(dtype))  # which is a number of the dtype as well
    change = (a - base) * (drawn / 2**32 < chance).to(dtype)
    assert torch.equal(got, base + change)


def test_della_keeps_more_of_what_is_large(tmp_path: Path) -> None:
    base, a = torch.zeros(50, 400), torch.rand(50, 400, generator=torch.Generator().manual_seed(2))
    recipe = (
        "merge_method: della_linear\nbase_model: org/base\nparameters: {rescale: false}\nmodels:\n"
        "  - {model: org/a, parameters: {weight: 1.0, density: 0.5, epsilon: 0.4}}\n"
    )
    kept = one({"a": a, "base": base}, recipe, tmp_path / "out") != 0
    order = a.argsort(dim=1)
    small, large = (float(kept.gather(1, o).double().mean()) for o in order.chunk(2, dim=1))
    assert abs(small - 0.3) < 0.02
    assert abs(large - 0.7) < 0.02


@pytest.mark.parametrize("name", ["linear", "slerp", "ties", "multislerp"])
def test_what_is_no_number_stops_the_merge(name: str, tmp_path: Path) -> None:
    recipe, given = memory(name, {"w": ((30, 20), torch.float32)})
    bad = read_model(_written(recipe, given, tmp_path))["w"]
    bad[3, 4] = float("nan")
    with pytest.raises(NotFiniteError, match=r"w: element 64|w: element 0"):
        merged(
            recipe,
            tmp_path / "out",
            given | {"org/m0": MemorySource.from_tensors("m0", {"w": bad})},
        )
    assert not (tmp_path / "out").exists()


def _written(recipe: str, given: dict[str, Any], tmp_path: Path) -> Path:
    mdm_kit.merge(recipe, tmp_path / "sound", sources=given)
    return tmp_path / "sound"


def test_a_dropped_model_must_be_made_of_numbers_too(tmp_path: Path) -> None:
    a, base = torch.ones(4), torch.zeros(4)
    a[2] = float("inf")
    recipe = (
        "merge_method: ties\nbase_model: org/base\n"
        "models: [{model: org/a, parameters: {weight: 1.0, density: 0.0}}]\n"
    )
    with pytest.raises(NotFiniteError, match="w: element 2 of a is inf"):
        one({"a": a, "base": base}, recipe, tmp_path / "out")


def test_a_sum_beyond_float16_stops_the_merge(tmp_path: Path) -> None:
    recipe = text("linear", ["org/a", "org/b"], None, "normalize: false", "dtype: float16")
    large = torch.full((3,), 60_000.0)
    with pytest.raises(NotFiniteError, match="must be a finite float16"):
        one({"a": large, "b": large * 2}, recipe, tmp_path / "out")


def test_directions_that_cancel_are_refused_in_words(tmp_path: Path) -> None:
    a = torch.tensor([1.0, 2.0, -3.0])
    recipe = "merge_method: multislerp\nmodels:\n" + "".join(
        f"  - {{model: org/{n}, parameters: {{weight: {w}}}}}\n"
        for n, w in (("a", 0.5), ("b", 0.25), ("c", 0.25))
    )
    with pytest.raises(MisfitError, match="w: the weighted directions of the models cancel"):
        one({"a": a, "b": -a, "c": -a}, recipe, tmp_path / "out")


def test_torch_has_its_threads_back(tmp_path: Path) -> None:
    recipe, given = memory("ties", {f"w{i}": ((50, 50), torch.float32) for i in range(20)})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        merged(recipe, tmp_path / "out", given, threads=4)
        assert torch.get_num_threads() == 3
        fresh = []
        from threading import Thread

        thread = Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [3]
    finally:
        torch.set_num_threads(before)
