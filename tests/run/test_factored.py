"""Merges of adapters on their factors equal merges of the models they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adapted_family import MODULES, SIZES, recipe, write_adapted
from adapters import factors, write_adapter
from families import read_model

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import NotFiniteError

ADAPTERS = {
    "a": {"rank": 2, "seed": 1},
    "b": {"rank": 5, "seed": 2, "modules": "layers.0", "alpha": 3},
    "c": {"rank": 1, "seed": 3, "modules": "mlp"},
}
METHODS = {
    "task_arithmetic": "",
    "mdm_oc": "parameters: {lambda: 0.75}",
    "mdm_oc over layers": "parameters: {scope: layer}",
    "mdm_oc over all": "parameters: {scope: global, orthogonalize: lowdin}",
    "opcm": "",
    "opcm paper": "parameters: {variant: paper, alpha: 0.3, scale_scope: tensor}",
    "opcm legacy": "parameters: {variant: legacy, scale: 0.8, lambda: 1.5}",
    "covmerge": "parameters: {ridge: 0.1}",
    "covmerge outputs": "parameters: {side: output, lambda: 0.9}",
    "covmerge bare": "parameters: {ridge: 0.0}",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("factored")
    write_adapted(root, ADAPTERS)
    return root


Merge = Callable[..., Path]


@pytest.fixture
def merge(root: Path, tmp_path: Path) -> Merge:
    def merge(out: str, what: str, names: dict[str, str], more: str = "", **options: int) -> Path:
        method = what.split(" ", maxsplit=1)[0]
        if method == "opcm":
            names = {name: form[:1] for name, form in names.items()}
        text = recipe(root, method, names, f"{METHODS.get(what, '')}\n{more}")
        mdm_kit.merge(text, tmp_path / out, **options)
        return tmp_path / out

    return merge


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("what", METHODS)
def test_equals_the_merge_of_expanded_weights(root: Path, merge: Merge, what: str) -> None:
    forms = {"a": "0.5", "b": "0.8", "c": "0.3"}
    out = "out_dtype: float64"
    found = read_model(merge("f", what, {n: "+" + w for n, w in forms.items()}, out))
    wide = "dtype: float64\nout_dtype: float64"
    wanted = read_model(merge("w", what, {n: "-" + w for n, w in forms.items()}, wide))
    base = read_model(root / "base")
    for name, t in found.items():
        change = wanted[name] - base[name].double()
        assert float((t - wanted[name]).norm()) <= 1e-5 * float(change.norm())


def test_the_plan_says_what_is_merged_on_factors(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for third, n in (("+1.0", 21), ("-1.0", 0)):
        (tmp_path / "r.yml").write_text(recipe(root, "mdm_oc", {"a": "+1.0", "b": third}))
        assert main(["plan", str(tmp_path / "r.yml")]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert (f"on factors {n} of 21 tensors, which only adapters change" in said) is (n > 0)


def test_reads_the_base_once_and_of_adapters_their_factors(root: Path) -> None:
    text = recipe(root, "mdm_oc", {"a": "+1.0", "b": "+1.0"})
    with mdm_kit.plan(text) as plan:
        files = [
            root / "base/model.safetensors",
            *(root / n / "adapter_model.safetensors" for n in "ab"),
        ]
        assert plan.costs.read_nbytes < sum(f.stat().st_size for f in files)
        assert plan.costs.passes == 1
        applies = [w.apply() for w in plan.writes]
        assert all(a is not None and a.is_factored for a in applies)


def test_one_model_that_is_no_adapter_has_all_changes_formed(root: Path) -> None:
    with mdm_kit.plan(recipe(root, "mdm_oc", {"a": "+1.0", "b": "-1.0"})) as plan:
        assert not any(a.is_factored for w in plan.writes if (a := w.apply()))


@pytest.mark.parametrize("what", METHODS)
def test_threads_and_tiles_change_no_byte(merge: Merge, what: str) -> None:
    names = {"a": "+0.5", "b": "+1.0", "c": "+1.0"}
    one = merge("one", what, names, threads=1)
    two = merge("two", what, names, threads=2, memory_nbytes=1)
    assert weights(one) == weights(two)


@pytest.mark.parametrize("what", METHODS)
@pytest.mark.parametrize("third", ["+1.0", "-1.0"])
def test_a_model_is_taken_out_to_the_byte(
    tmp_path: Path, merge: Merge, what: str, third: str
) -> None:
    names = {"a": "+0.5", "b": "+0.75", "c": third}
    everything = merge("all", what, names)
    mdm_kit.unmerge(everything, tmp_path / "less", ["c"])
    never = merge("never", what, {"a": "+0.5", "b": "+0.75"})
    assert weights(tmp_path / "less") == weights(never)
    assert mdm_kit.verify(tmp_path / "less", deep=True).faults == ()


@pytest.mark.parametrize("what", METHODS)
@pytest.mark.parametrize("third", ["+", "-"])
def test_a_model_joins_as_if_it_had_always_been_there(
    root: Path, tmp_path: Path, merge: Merge, what: str, third: str
) -> None:
    # Without its sums OPCM goes on from rounded weights, and says so.
    keep = "ledger: {keep: state}" if what.startswith("opcm") else ""
    two = merge("two", what, {"a": "+0.5", "b": "+0.75"}, keep)
    ref = f"{root}/base+{root}/c" if third == "+" else f"{root}/c-whole"
    weight = None if what.startswith("opcm") else 1.0
    mdm_kit.add(two, tmp_path / "added", [mdm_kit.Addition(ref, name="c", weight=weight)])
    once = merge("once", what, {"a": "+0.5", "b": "+0.75", "c": third + "1.0"}, keep)
    assert weights(tmp_path / "added") == weights(once)


def test_components_are_orthogonal_when_measured_again(merge: Merge) -> None:
    out = merge("out", "mdm_oc", {"a": "+0.5", "b": "+0.75", "c": "+1.0"})
    found = mdm_kit.verify(out, deep=True)
    assert found.faults == ()
    assert found.remade is not None
    assert found.remade.interference is not None
    assert found.remade.interference < 1e-12


def test_an_adapter_that_is_there_twice_depends_on_itself(root: Path, tmp_path: Path) -> None:
    write_adapted(tmp_path, {"x": {"seed": 7}, "y": {"seed": 7, "alpha": 8}})
    text = recipe(tmp_path, "mdm_oc", {"x": "+1.0", "y": "+1.0"}, "out_dtype: float64")
    mdm_kit.merge(text, tmp_path / "out")
    alone = recipe(tmp_path, "mdm_oc", {"x": "+1.0"}, "out_dtype: float64")
    mdm_kit.merge(alone, tmp_path / "alone")
    found, wanted = read_model(tmp_path / "out"), read_model(tmp_path / "alone")
    for name, t in found.items():
        torch.testing.assert_close(t, wanted[name], rtol=0, atol=1e-12)


def test_a_nan_names_the_adapter(root: Path, tmp_path: Path) -> None:
    own = factors(MODULES)
    own["model.layers.1.mlp.up_proj.lora_A.weight"][0, 3] = torch.nan
    write_adapter(tmp_path / "bad", own)
    for method in ("task_arithmetic", "mdm_oc"):
        text = recipe(root, method, {"a": "+1.0"})
        text += "  # \n"
        models = (
            f"  - {{model: {root}/base+{tmp_path}/bad, name: bad, parameters: {{weight: 1}}}}\n"
        )
        text = text.replace("models:\n", "models:\n" + models)
        with pytest.raises(NotFiniteError, match=r"model.layers.1.mlp.up_proj.weight.*bad"):
            mdm_kit.merge(text, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_tensors_no_adapter_touches_are_the_base_s(root: Path, merge: Merge) -> None:
    found = read_model(merge("out", "mdm_oc", {"a": "+0.5", "c": "+1.0"}))
    for name, t in read_model(root / "base").items():
        touched = name.removesuffix(".weight") in MODULES
        assert torch.equal(found[name], t) is not touched
    assert SIZES.layers == 2
