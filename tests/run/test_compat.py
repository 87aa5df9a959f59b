"""`--compat mergekit`: laws of its merges; that the bits are mergekit's is in tests/parity."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from families import ODD, Spec, read_model, tensors, write_family
from merged_families import manifest_of, promised
from reference.philox import number
from torch import Tensor

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import MisfitError, NotFiniteError, RecipeError, UsageError
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import as_in_mergekit, compat_memory, refusals
from mdm_kit.recipe import read_recipe_text
from mdm_kit.run.compat_methods import ARITHMETIC
from mdm_kit.run.drawing import key_of
from mdm_kit.sources import MemorySource

DIALECT = sorted(name for name, m in methods().items() if m.dialect)
SHAPES: Spec = {
    "matrix": ((300, 301), torch.bfloat16),
    "vector": ((40_001,), torch.float32),
    "half": ((33, 20), torch.float16),
    "cube": ((3, 5, 7), torch.bfloat16),
    "empty": ((0, 5), torch.float32),
    "ids": ((11,), torch.int64),
}


def text(name: str, models: list[str], base: str | None, shared: str = "", more: str = "") -> str:
    """A recipe with a value for all that has no default, and a density of a half."""
    method = methods()[name]
    own = {s.name: 0.4 for s in method.params.specs() if s.per_model and s.required}
    if any(s.name == "density" and not s.inert for s in method.params.specs()):
        own["density"] = 0.5
    values = ", ".join(f"{key}: {value}" for key, value in own.items())
    needed = [s.name for s in method.params.specs() if s.required and not s.per_model]
    shared = ", ".join([*(f"{n}: 0.3" for n in needed), *([shared] if shared else [])])
    listed = "".join(f"  - {{model: {m}, parameters: {{{values}}}}}\n" for m in models)
    head = f"merge_method: {name}\n" + (f"base_model: {base}\n" if base else "")
    return f"{head}models:\n{listed}parameters: {{{shared}}}\n{more}\n"


def memory(name: str, shapes: Spec = SHAPES, size: float = 0.05) -> tuple[str, dict[str, Any]]:
    """A recipe of a method and its models in memory."""
    k = min(3, methods()[name].max_models or 3)
    base = tensors(shapes, 0)
    models = {"org/base": base} if methods()[name].base != "ignored" else {}
    for i in range(k):
        step = tensors(shapes, i + 1)
        models[f"org/m{i}"] = {
            n: (t.double() + size * step[n].double()).to(t.dtype) if t.is_floating_point() else t
            for n, t in base.items()
        }
    given = {ref: MemorySource.from_tensors(ref, m) for ref, m in models.items()}
    base_ref = "org/base" if "org/base" in models else None
    return text(name, [r for r in models if r != "org/base"], base_ref), given


def merged(recipe: str, out: Path, sources: dict[str, Any], **how: Any) -> dict[str, Tensor]:
    mdm_kit.merge(recipe, out, sources=sources, compat="mergekit", **how)
    return read_model(out)


def one(weights: dict[str, Tensor], recipe: str, out: Path) -> Tensor:
    """The merge of one tensor `w`."""
    given = {f"org/{n}": MemorySource.from_tensors(n, {"w": t}) for n, t in weights.items()}
    return merged(recipe, out, given)["w"]


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


def test_mdm_oc_is_no_method_of_mergekits(tmp_path: Path) -> None:
    recipe, given = memory("mdm_oc")
    with pytest.raises(RecipeError, match=r"recipe.yml:1:15: error: .*mergekit has no mdm_oc"):
        mdm_kit.plan(recipe, sources=given, compat="mergekit")
    with mdm_kit.plan(recipe, sources=given) as plan:
        assert plan.exit_code == 0
    with pytest.raises(UsageError, match="compat should be mergekit, found 'mergekit-0.0.4'"):
        mdm_kit.plan(recipe, sources=given, compat="mergekit-0.0.4")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["linear", "ties"])
def test_the_plan_is_another_and_says_so(name: str) -> None:
    recipe, given = memory(name)
    with (
        mdm_kit.plan(recipe, sources=given) as normal,
        mdm_kit.plan(recipe, sources=given, compat="mergekit") as compat,
    ):
        assert normal.digest != compat.digest
        assert {a.compute for w in compat.writes if (a := w.apply())} == {
            "mergekit:bfloat16",
            "mergekit:float16",
            "mergekit:float32",
        }
        assert compat.costs.passes == 1
        assert compat.costs.memory_nbytes > normal.costs.memory_nbytes


def test_memory_is_that_of_whole_tensors_for_each_worker() -> None:
    recipe, given = memory("ties", {"w": ((3000, 1000), torch.bfloat16)})
    with (
        mdm_kit.plan(recipe, sources=given, compat="mergekit", threads=1) as one_worker,
        mdm_kit.plan(recipe, sources=given, compat="mergekit", threads=4) as four,
    ):
        apply = one_worker.writes[0].apply()
        assert apply is not None
        own = compat_memory(apply, 3_000_000)
        assert own > 3_000_000 * 2 * 4  # no less than the inputs in the working dtype
        assert one_worker.costs.memory_nbytes >= own
        assert four.costs.memory_nbytes >= 4 * own


def test_copied_tensors_are_left_alone() -> None:
    recipe, given = memory("ties")
    with mdm_kit.plan(recipe, sources=given) as plan:
        (ids,) = (w for w in plan.writes if w.name == "ids")
        assert as_in_mergekit(ids, plan.recipe) is ids


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


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_family(root, ODD, n=3)
    return root


def from_folders(family: Path, name: str, models: list[str]) -> str:
    base = str(family / "base") if methods()[name].base != "ignored" else None
    return text(name, [str(family / m) for m in models], base)


REBUILT = sorted(n for n in DIALECT if "rebuild" in methods()[n].undo)


@pytest.mark.parametrize("name", REBUILT)
def test_taken_out_and_put_in_it_is_a_fresh_merge(name: str, family: Path, tmp_path: Path) -> None:
    def fresh(models: list[str], out: str) -> dict[str, bytes]:
        recipe = from_folders(family, name, models)
        mdm_kit.merge(recipe, tmp_path / out, compat="mergekit")
        return promised(tmp_path / out)

    fresh(["m1", "m2", "m3"], "all")
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "less", ["m2"])
    assert promised(tmp_path / "less") == fresh(["m1", "m3"], "never")
    weighed = any(s.name == "weight" for s in methods()[name].params.specs())
    weight = 0.4 if weighed else None
    if "density" not in from_folders(family, name, ["m1"]):  # which `add` has no word for
        mdm_kit.add(
            tmp_path / "less",
            tmp_path / "more",
            [mdm_kit.Addition(str(family / "m2"), weight=weight)],
        )
        assert promised(tmp_path / "more") == fresh(["m1", "m3", "m2"], "always")
    assert mdm_kit.verify(tmp_path / "less", deep=True).sound


def test_its_manifest_says_how_it_was_made(family: Path, tmp_path: Path) -> None:
    recipe = from_folders(family, "task_arithmetic", ["m1", "m2"])
    mdm_kit.merge(recipe, tmp_path / "out", compat="mergekit")
    manifest = manifest_of(tmp_path / "out")
    assert set(manifest.precision.compute) == {
        f"mergekit:{n}" for n in ("bfloat16", "float16", "float32", "float64")
    }
    assert manifest.undo == ["rebuild"]
    with pytest.raises(UsageError, match=r"--mode exact is not .*: it was made by --compat merge"):
        mdm_kit.unmerge(tmp_path / "out", tmp_path / "x", ["m1"], mode="exact")
    mdm_kit.merge(recipe, tmp_path / "normal")
    assert manifest_of(tmp_path / "normal").undo == ["rebuild", "exact", "subtract"]
    assert promised(tmp_path / "normal") != promised(tmp_path / "out")


def test_on_the_command_line(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.yml", tmp_path / "out"
    recipe.write_text(from_folders(family, "linear", ["m1", "m2"]))
    assert main(["plan", str(recipe), "--compat", "mergekit"]) == 0
    assert "mergekit:bfloat16" in capsys.readouterr().out
    assert main(["merge", str(recipe), str(out), "--compat", "mergekit"]) == 0
    mdm_kit.merge(recipe, tmp_path / "api", compat="mergekit")
    assert promised(out) == promised(tmp_path / "api")
    recipe.write_text(from_folders(family, "mdm_oc", ["m1", "m2"]))
    assert main(["plan", str(recipe), "--compat", "mergekit"]) == 2
    assert "mergekit has no mdm_oc" in capsys.readouterr().err


def test_planning_it_imports_no_torch(family: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(from_folders(family, "ties", ["m1", "m2"]))
    program = (
        "import sys, mdm_kit\n"
        f"mdm_kit.plan({str(recipe)!r}, compat='mergekit').close()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
