"""Tensors that not every model has: refused, copied, or merged of those that have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import Spec, fine_tuned, read_model, tensors, write_model
from merged_families import manifest_of, promised
from reference import dense

import mdm_kit
from mdm_kit.errors import RecipeError
from mdm_kit.ledger.entries import Mode
from mdm_kit.run.progress import Silent
from mdm_kit.words import Level

SPEC: Spec = {
    "model.embed_tokens.weight": ((21, 8), torch.float32),
    "model.layers.0.mlp.weight": ((8, 8), torch.float32),
    "model.layers.0.norm.weight": ((8,), torch.float32),
    "model.layers.1.mlp.weight": ((8, 8), torch.bfloat16),
    "model.layers.1.norm.weight": ((8,), torch.float32),
    "model.ids": ((5,), torch.int64),
    "score.weight": ((2, 8), torch.float32),
}
SHAPED, LACKED, EXTRA = "model.embed_tokens.weight", "score.weight", "head.bias"
IDS, CLASH = "model.ids", "model.layers.1.norm.weight"
"""m1 has another shape, m2 lacks one, and the ids, m3 has more, and one as integers."""
GAPS = {"m1": {SHAPED}, "m2": {LACKED, IDS}, "m3": {CLASH}, "m4": set()}
WEIGHTS = {"m1": 0.5, "m2": 0.7, "m3": -0.4, "m4": 0.3}
METHODS = ("task_arithmetic", "ties", "mdm_oc", "linear")

Family = tuple[Path, dict[str, dict[str, torch.Tensor]]]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    root = tmp_path_factory.mktemp("odd")
    base = tensors(SPEC, 1)
    models = {"base": base} | {m: fine_tuned(base, 5 + i) for i, m in enumerate(GAPS)}
    models["m1"][SHAPED] = torch.zeros(23, 8)
    del models["m2"][LACKED], models["m2"][IDS]
    models["m3"] |= {EXTRA: torch.ones(4), CLASH: torch.ones(8, dtype=torch.int32)}
    for name, model in models.items():
        write_model(root / name, model)
    return root, models


def recipe(
    family: Family,
    names: list[str],
    on_mismatch: str,
    method: str = "task_arithmetic",
    more: str = "",
) -> str:
    root, _ = family
    listed = "".join(
        f"  - {{model: {root}/{n}, name: {n}, parameters: {{weight: {WEIGHTS[n]}}}}}\n"
        for n in names
    )
    said = f"on_mismatch: {on_mismatch}\n" if on_mismatch else ""
    text = f"merge_method: {method}\nbase_model: {root}/base\nmodels:\n{listed}{said}{more}\n"
    if method in ("ties", "linear"):
        text += "parameters: {normalize: false}\n"
    return text


@pytest.mark.parametrize("said", ["", "error"])
def test_by_default_every_mismatch_is_an_error(family: Family, said: str) -> None:
    with mdm_kit.plan(recipe(family, list(GAPS), said)) as plan:
        errors = [f for f in plan.findings if f.level is Level.ERROR]
        text = plan.report()
    assert {f.level for f in errors} == {Level.ERROR}
    for name in (SHAPED, LACKED, IDS, EXTRA, CLASH):
        assert name in text
    assert "on_mismatch: base" in text


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("mode", ["base", "skip"])
def test_every_base_tensor_is_written_as_the_mode_says(
    family: Family, tmp_path: Path, mode: str, n: int
) -> None:
    _, models = family
    names = list(GAPS)[:n]
    mdm_kit.merge(recipe(family, names, mode), tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert got.keys() == SPEC.keys()
    for name, base in models["base"].items():
        having = [m for m in names if name not in GAPS[m]]
        if name == IDS or not having or (mode == "base" and len(having) < n):
            assert torch.equal(got[name], base)
            continue
        own, weights = [models[m][name] for m in having], [WEIGHTS[m] for m in having]
        want = dense.task_arithmetic(base, own, weights)
        torch.testing.assert_close(got[name], want.to(base.dtype), rtol=1e-2, atol=1e-6)
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


@pytest.mark.parametrize("mode", ["base", "skip"])
def test_what_is_left_out_is_told_by_plan_notes_and_manifest(
    family: Family, tmp_path: Path, mode: str
) -> None:
    text = recipe(family, list(GAPS), mode)
    with mdm_kit.plan(text) as plan:
        said = "\n".join(f.message for f in plan.findings if f.level is Level.NOTE)
        listed = {s["name"]: s.get("unused") for s in plan.to_json()["sources"]}
    for name in (SHAPED, LACKED, IDS, EXTRA, CLASH):
        assert name in said
    assert {m: set(names or ()) for m, names in listed.items()} == {
        "base": set(),
        "m1": {SHAPED},
        "m2": set(),
        "m3": {EXTRA, CLASH},
        "m4": set(),
    }
    mdm_kit.merge(text, tmp_path / "out")
    manifest = manifest_of(tmp_path / "out")
    assert manifest.parts is not None
    assert {m: set(names) for m, names in manifest.parts.unused.items()} == {
        "m1": {SHAPED},
        "m3": {EXTRA, CLASH},
    }
    copied = {n for n, t in manifest.tensors.items() if t.rule == "base"}
    if mode == "base":
        assert copied == {SHAPED, LACKED, IDS, CLASH}
        assert manifest.parts.without == {}
    else:
        assert copied == set()
        assert manifest.parts.without == {SHAPED: ["m1"], LACKED: ["m2"], CLASH: ["m3"]} | {
            IDS: ["m2"]
        }


@pytest.mark.parametrize("mode", ["base", "skip"])
@pytest.mark.parametrize("method", METHODS)
def test_edits_leave_no_trace(family: Family, tmp_path: Path, mode: str, method: str) -> None:
    root, _ = family
    more = "ledger: {keep: deltas}" if method != "linear" else ""
    mdm_kit.merge(recipe(family, ["m4", "m1", "m2"], mode, method, more), tmp_path / "a")
    new = mdm_kit.Addition(str(root / "m3"), name="m3", weight=WEIGHTS["m3"])
    mdm_kit.add(tmp_path / "a", tmp_path / "b", [new])
    mdm_kit.merge(recipe(family, ["m4", "m1", "m2", "m3"], mode, method, more), tmp_path / "c")
    assert promised(tmp_path / "b") == promised(tmp_path / "c")
    mdm_kit.unmerge(tmp_path / "b", tmp_path / "d", ["m1", "m2"])
    mdm_kit.merge(recipe(family, ["m4", "m3"], mode, method, more), tmp_path / "e")
    assert promised(tmp_path / "d") == promised(tmp_path / "e")
    for folder in "bd":
        assert mdm_kit.verify(tmp_path / folder, deep=True).sound


@pytest.mark.parametrize("mode", ["exact", "subtract"])
def test_patches_need_every_model_in_every_tensor(
    family: Family, tmp_path: Path, mode: Mode
) -> None:
    names = ["m4", "m2", "m1"]
    mdm_kit.merge(recipe(family, names, "skip", "mdm_oc"), tmp_path / "skip")
    with pytest.raises(mdm_kit.errors.UsageError, match="not possible here"):
        mdm_kit.unmerge(tmp_path / "skip", tmp_path / "out", ["m1"], mode=mode)
    mdm_kit.merge(recipe(family, names, "base", "mdm_oc"), tmp_path / "base")
    mdm_kit.unmerge(tmp_path / "base", tmp_path / "out", ["m1"], mode=mode)
    assert mdm_kit.verify(tmp_path / "out", deep=mode == "subtract").sound
    _, models = family
    got = read_model(tmp_path / "out")
    for name in (SHAPED, LACKED):
        assert torch.equal(got[name], models["base"][name])


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_tensors_solved_together_need_the_same_models(family: Family, scope: str) -> None:
    more = f"parameters: {{scope: {scope}}}"
    with mdm_kit.plan(recipe(family, ["m1", "m4"], "skip", "mdm_oc", more)) as plan:
        assert "scope: tensor solves each by itself" in plan.report()
        assert plan.exit_code == 3
    with mdm_kit.plan(recipe(family, ["m1", "m4"], "base", "mdm_oc", more)) as plan:
        assert plan.exit_code == 0


def test_too_few_models_for_a_method_leave_the_base(family: Family, tmp_path: Path) -> None:
    text = recipe(family, ["m1", "m4"], "skip").replace("task_arithmetic", "model_stock")
    text = text.replace(", parameters: {weight: 0.5}", "").replace(
        ", parameters: {weight: 0.3}", ""
    )
    mdm_kit.merge(text, tmp_path / "out")
    _, models = family
    assert torch.equal(read_model(tmp_path / "out")[SHAPED], models["base"][SHAPED])
    assert not torch.equal(read_model(tmp_path / "out")[LACKED], models["base"][LACKED])


def test_an_interrupted_merge_goes_on(family: Family, tmp_path: Path) -> None:
    """Inner products of fewer models pass through the journal as well."""
    text = recipe(family, ["m4", "m1", "m2"], "skip", "mdm_oc")
    mdm_kit.merge(text, tmp_path / "whole", shard_nbytes=600)

    class Stopped(Silent):
        def advance(self, nbytes: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdm_kit.merge(text, tmp_path / "out", shard_nbytes=600, progress=Stopped())
    mdm_kit.merge(text, tmp_path / "out", shard_nbytes=600)
    assert promised(tmp_path / "out") == promised(tmp_path / "whole")


def test_weights_that_cancel_in_what_is_left_are_told_before(family: Family) -> None:
    text = recipe(family, ["m1", "m2", "m4"], "skip", "linear")
    text = text.replace("normalize: false", "normalize: true").replace("0.5", "-1.0")
    text = text.replace("0.7", "-0.3")
    with pytest.raises(RecipeError, match=r"the weights \[-0.3, 0.3\] sum to zero"):
        mdm_kit.plan(text)


@pytest.mark.parametrize("said", ["skp", "[base]", "union"])
def test_another_word_is_refused_with_the_nearest(family: Family, said: str) -> None:
    with pytest.raises(RecipeError, match="on_mismatch"):
        mdm_kit.plan(recipe(family, ["m4"], said))
