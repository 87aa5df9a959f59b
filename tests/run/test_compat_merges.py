"""`--compat mergekit` from plan to unmerge: what it costs, what is recorded, how it is undone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compat_cases import DIALECT, memory, text
from families import ODD, write_family
from merged_families import manifest_of, promised

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import as_in_mergekit, compat_memory


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
