"""Several documents in one recipe: who may use whom, and what is wrong, with its place."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import edited_text, read_recipe_text, rewrite_references
from mdm_kit.words import Level

TWO = """\
name: first
merge_method: linear
models: [{model: org/a}, {model: org/b, parameters: {weight: 0.5}}]
seed: 3
---
merge_method: slerp
base_model: first
models: [{model: first}, {model: ./c}]
parameters: {t: 0.25}
"""


def test_the_last_document_is_the_recipe_and_the_others_are_its_stages() -> None:
    recipe = read_recipe_text(TWO).require()
    assert recipe.merge_method.text == "slerp"
    (stage,) = recipe.stages
    assert (stage.name, stage.seed, recipe.seed) == ("first", 3, 0)
    assert (stage.earlier, recipe.earlier) == ((), ("first",))
    assert recipe.dialect is False  # a seed is ours
    assert read_recipe_text(TWO.replace("seed: 3\n", "")).require().dialect


def test_references_are_those_to_models() -> None:
    recipe = read_recipe_text(TWO).require()
    assert [str(r.ref) for r in recipe.references] == ["org/a", "org/b", "./c"]
    assert [r.place.line for r in recipe.references] == [3, 3, 8]
    assert [str(r.ref) for r in recipe.inputs] == ["first", "first", "./c"]


def test_models_are_replaced_in_every_document_and_stages_in_none() -> None:
    recipe = read_recipe_text(TWO).require()
    text = rewrite_references(recipe, lambda ref: f"new/{ref.path[-1]}")
    assert text == TWO.replace("org/a", '"new/a"').replace("org/b", '"new/b"').replace(
        "./c", '"new/c"'
    )


def test_an_edit_writes_every_document() -> None:
    recipe = read_recipe_text(TWO).require()
    again = read_recipe_text(edited_text(recipe)).require()
    assert [s.name for s in again.stages] == ["first"]
    assert [str(r.ref) for r in again.references] == [str(r.ref) for r in recipe.references]
    assert again.stages[0].seed == 3
    without = read_recipe_text(edited_text(recipe, drop=["b"])).require()
    assert [m.name for m in without.stages[0].models] == ["a"]


def test_a_stage_can_use_an_earlier_one_and_slices_can() -> None:
    text = """\
name: one
merge_method: linear
models: [{model: org/a}]
---
name: two
merge_method: linear
models: [{model: one}, {model: org/b}]
---
merge_method: passthrough
slices:
  - sources: [{model: one, layer_range: [0, 2]}]
  - sources: [{model: two, layer_range: [1, 2]}]
"""
    parsed = read_recipe_text(text)
    assert not parsed.findings, parsed.render()
    assert parsed.require().earlier == ("one", "two")
    assert [s.earlier for s in parsed.require().stages] == [(), ("one",)]
    modules = text.replace("slices:", "modules:\n  m:\n   slices:").replace("  - s", "    - s")
    assert not read_recipe_text(modules).findings


def test_an_anchor_counts_in_its_own_document() -> None:
    text = TWO.replace("0.5", "&w 0.5").replace("0.25", "*w")
    assert "has no anchor &w" in read_recipe_text(text).findings[0].message


LINEAR = "merge_method: linear\n"
WRONG = {
    "no name": (TWO.replace("name: first\n", ""), 1, "has no 'name'"),
    "one name twice": (
        TWO.replace("---", f"---\nname: first\n{LINEAR}models: [{{model: first}}]\n---"),
        6,
        "is taken by the document with it in line 1",
    ),
    "the name of the result": (TWO + "name: first\n", 10, "is taken by"),
    "itself": (TWO.replace("org/a", "first"), 3, "'first' is this document itself"),
    "a later one": (TWO.replace("org/a", "last") + "name: last\n", 3, "stands behind this one"),
    "a revision": (TWO.replace("base_model: first", "base_model: first@v1"), 7, "no revision"),
    "an adapter": (TWO.replace("base_model: first", "base_model: first+org/x"), 7, "no adapter"),
    "no reference": (TWO.replace("first", "fir@st+"), 1, "cannot stand where a model does"),
    "push of a stage": (TWO.replace("seed: 3", "push: {repo: me/x}"), 4, "'push' is about the"),
    "ledger of a stage": (TWO.replace("seed: 3", "ledger: {keep: none}"), 4, "'ledger' is about"),
    "license of a stage": (TWO.replace("seed: 3", "license: mit"), 4, "'license' is about the"),
    "an empty document": (TWO + "---\n", 11, "found nothing"),
}


@pytest.mark.parametrize(("text", "line", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_where_it_stands(text: str, line: int, words: str) -> None:
    parsed = read_recipe_text(text)
    assert not parsed.ok
    found = [f for f in parsed.findings if words in f.message]
    assert found, parsed.render()
    assert found[0].place is not None
    assert found[0].place.line == line


def test_a_stage_nobody_uses_is_a_warning() -> None:
    parsed = read_recipe_text(TWO.replace("first}", "org/x}").replace("el: first", "el: org/x"))
    assert parsed.ok
    (finding,) = parsed.findings
    assert finding.level is Level.WARNING
    assert "no later document uses the stage 'first'" in finding.message


def test_every_document_is_judged() -> None:
    text = TWO.replace("seed: 3", "sed: 3").replace("parameters: {t", "t: 1\nparameters: {t")
    messages = [f.message for f in read_recipe_text(text).findings]
    assert any("unknown key 'sed'" in m for m in messages)
    assert any("the parameter 't'" in m for m in messages)


def test_there_is_an_end_to_stages() -> None:
    many = "".join(f"name: s{i}\n{LINEAR}models: [{{model: org/a}}]\n---\n" for i in range(100))
    parsed = read_recipe_text(many + LINEAR + "models: [{model: s1}]\n")
    assert "at most 100 documents" in parsed.findings[0].message
