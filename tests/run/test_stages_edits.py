"""Merges of several stages afterwards: what their manifest says, and taking models out of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from families import write_family
from staged import content, filled

import mdm_kit
from mdm_kit.errors import IntegrityError, RecipeError, UsageError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.recipe import Addition

RECIPE = """\
name: first
merge_method: task_arithmetic
base_model: BASE
models: [{model: M1}, {model: M2, name: two}]
parameters: {weight: 0.5}
---
name: second
merge_method: dare_ties
base_model: BASE
models: [{model: first}, {model: M2}, {model: M3}]
parameters: {weight: 0.5, density: 0.5}
seed: 7
---
merge_method: mdm_oc
base_model: BASE
models: [{model: second}, {model: M1}]
parameters: {weight: 0.5}
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("staged_edits")
    write_family(root, n=3)
    return root


@pytest.fixture(scope="module")
def merged(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("staged_merge") / "out"
    mdm_kit.merge(filled(family, RECIPE), out)
    return out


def manifest_of(out: Path) -> Manifest:
    return Manifest.from_bytes((out / "mdm_manifest.json").read_bytes())


def test_the_manifest_lists_every_model_once_and_every_stage(merged: Path) -> None:
    manifest = manifest_of(merged)
    assert [(s.name, s.role) for s in manifest.sources] == [
        ("base", "base"),
        ("m1", "model"),
        ("two", "model"),
        ("m3", "model"),
    ]
    references = {s.name: s.reference for s in manifest.sources}
    first, second = manifest.stages or ()
    assert (first.name, first.method, first.seed) == ("first", "task_arithmetic", 0)
    names = ("base", "m1", "two")
    assert [(m.name, m.reference) for m in first.models] == [(n, references[n]) for n in names]
    assert (second.name, second.seed) == ("second", 7)
    assert [(m.name, m.reference) for m in second.models] == [
        ("base", references["base"]),
        ("first", "first"),
        ("m2", references["two"]),
        ("m3", references["m3"]),
    ]
    assert manifest.ledger is not None
    assert manifest.ledger.models == ["second", "m1"]
    assert manifest.undo == ["rebuild"]


def test_the_card_and_the_recipe_hold_no_path(family: Path, merged: Path) -> None:
    for name in ("README.md", "mdm_recipe.yml", "mdm_manifest.json"):
        assert str(family) not in (merged / name).read_text()


def test_it_verifies_down_to_its_models(merged: Path) -> None:
    found = mdm_kit.verify(merged, deep=True)
    assert found.sound, found.faults
    assert {g.model for g in found.guarantees} == {"m1", "two", "m3"}


def test_a_stage_that_was_changed_in_the_manifest_is_found(merged: Path, tmp_path: Path) -> None:
    manifest = json.loads((merged / "mdm_manifest.json").read_text())
    manifest["stages"][0]["name"] = "other"
    (tmp_path / "mdm_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match="stages is not what the history says"):
        mdm_kit.verify(tmp_path)


def test_a_model_is_taken_out_of_every_document(family: Path, merged: Path, tmp_path: Path) -> None:
    less = mdm_kit.unmerge(merged, tmp_path / "less", ["two"])
    text = RECIPE.replace(", {model: M2, name: two}", "").replace("{model: M2}, ", "")
    never = mdm_kit.merge(filled(family, text), tmp_path / "never")
    assert less.shards == never.shards
    assert content(tmp_path / "less") == content(tmp_path / "never")
    found = mdm_kit.verify(tmp_path / "less", deep=True)
    assert found.sound, found.faults
    again = mdm_kit.unmerge(tmp_path / "less", tmp_path / "again", ["m3"])
    never = mdm_kit.merge(filled(family, text.replace(", {model: M3}", "")), tmp_path / "never2")
    assert again.shards == never.shards


REFUSED = {
    "unknown": (["m2"], "no model 'm2'; its models: base, m1, two, m3"),
    "a base": (["base"], "'base' is the base of the stage 'first'"),
    "all of a stage": (["m1", "two"], "the stage 'first' would be left without models"),
}


@pytest.mark.parametrize(("drop", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_out_is_said(
    merged: Path, tmp_path: Path, drop: list[str], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        mdm_kit.unmerge(merged, tmp_path / "less", drop)
    assert words in str(caught.value)


def test_other_edits_are_refused(family: Path, merged: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which of them a new model joins"):
        mdm_kit.add(merged, tmp_path / "more", [Addition(str(family / "m3"))])
    with pytest.raises(UsageError, match="rebuild"):
        mdm_kit.unmerge(merged, tmp_path / "less", ["m1"], mode="subtract")
    with pytest.raises(UsageError, match="weights are to be reset"):
        mdm_kit.unmerge(merged, tmp_path / "less", ["m1"], reset_coefficients=True)


@pytest.mark.parametrize("keep", ["deltas", "deltas+base", "state"])
def test_what_only_one_document_can_keep_is_refused(family: Path, keep: str) -> None:
    text = filled(family, RECIPE) + f"ledger: {{keep: {keep}}}\n"
    with pytest.raises(RecipeError, match="where stages are between"):
        mdm_kit.plan(text)


def test_models_of_one_name_are_told_apart(family: Path, tmp_path: Path) -> None:
    """Each document names its own, and draws by those names; the manifest has one of each."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "m1").symlink_to(family / "m3")
    draws = "merge_method: dare_linear\nparameters: {weight: 0.5, density: 0.5}\nbase_model: BASE\n"
    text = f"name: a\n{draws}models: [{{model: M1}}, {{model: M2}}]\n---\n"
    text += f"{draws}models: [{{model: a}}, {{model: OTHER}}]\n"
    text = filled(family, text).replace("OTHER", f"{tmp_path}/other/m1")
    mdm_kit.merge(text, tmp_path / "out")
    manifest = manifest_of(tmp_path / "out")
    assert [s.name for s in manifest.sources] == ["base", "m1-2", "m2", "m1"]
    found = mdm_kit.verify(tmp_path / "out", deep=True)
    assert found.sound, found.faults


def test_a_model_that_is_listed_twice_stands_twice(family: Path, tmp_path: Path) -> None:
    text = RECIPE.replace(
        "models: [{model: second}, ", "models: [{model: second}, {model: M1, name: b}, "
    )
    text = text.replace("models: [{model: M1}, ", "models: [{model: M1}, {model: M1, name: a}, ")
    mdm_kit.merge(filled(family, text), tmp_path / "out")
    manifest = manifest_of(tmp_path / "out")
    assert [s.name for s in manifest.sources] == ["base", "b", "two", "m3", "m1"]
    assert [m.name for m in (manifest.stages or ())[0].models] == ["base", "m1", "a", "two"]
    found = mdm_kit.verify(tmp_path / "out", deep=True)
    assert found.sound, found.faults
    with pytest.raises(UsageError, match="drop both"):
        mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["m1"])
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["m1", "b"])
    assert mdm_kit.verify(tmp_path / "less", deep=True).sound
