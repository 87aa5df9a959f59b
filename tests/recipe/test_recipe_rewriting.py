"""References replaced in the text, and nothing else touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.errors import RecipeError
from mdm_kit.recipe import quoted, read_recipe_text, rewrite_references
from mdm_kit.recipe.collector import Collector
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_reader import read_documents

if TYPE_CHECKING:
    from mdm_kit.words import ModelRef


def pinned(ref: ModelRef) -> str:
    return f"{ref.path}@{'0' * 40}"


PIN = "@" + "0" * 40


def test_comments_and_order_stay() -> None:
    text = (
        "# one\nmodels: # two\n  - {name: b, model: org/b@v1}  # three\n"
        "  - model:\n      path: org/c # four\n      revision: v1\n    name: c\n"
        "merge_method: ties\nbase_model: 'org/a'\n"
    )
    new = rewrite_references(read_recipe_text(text).require(), pinned)
    assert new == (
        f'# one\nmodels: # two\n  - {{name: b, model: "org/b{PIN}"}}  # three\n'
        f'  - model:\n      "org/c{PIN}"\n    name: c\n'
        f'merge_method: ties\nbase_model: "org/a{PIN}"\n'
    )


def test_aliases_are_replaced_where_they_stand() -> None:
    text = (
        "merge_method: ties\nbase_model: &b {path: &p org/a}\n"
        "models: [{model: *b, name: x}, {model: *p, name: y}]\n"
    )
    new = rewrite_references(read_recipe_text(text).require(), pinned)
    assert new == (
        f'merge_method: ties\nbase_model: &b "org/a{PIN}"\n'
        f'models: [{{model: "org/a{PIN}", name: x}}, {{model: "org/a{PIN}", name: y}}]\n'
    )


def test_a_template_merged_into_two_models_is_replaced_once() -> None:
    text = "merge_method: ties\nmodels:\n  - &m {model: org/a, name: x}\n  - {<<: *m, name: y}\n"
    new = rewrite_references(read_recipe_text(text).require(), pinned)
    assert new == text.replace("org/a", f'"org/a{PIN}"')


@pytest.mark.parametrize(
    "text",
    [
        # the merged mapping is itself a reference
        "merge_method: x\nbase_model: &b {model: org/a}\nmodels: [{<<: *b}]\n",
        # an anchor inside a reference is used outside of every reference
        "merge_method: x\nmodels: [{model: {path: &p abc}, name: *p}]\n",
    ],
)
def test_what_cannot_be_replaced_is_refused(text: str) -> None:
    recipe = read_recipe_text(text).require()
    with pytest.raises(RecipeError, match="cannot be replaced"):
        rewrite_references(recipe, pinned)


def test_what_is_no_reference_is_refused() -> None:
    recipe = read_recipe_text("merge_method: x\nmodels: [{model: org/a}]\n").require()
    with pytest.raises(RecipeError):
        rewrite_references(recipe, lambda _: "a@b@c")


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_quoted_text_reads_back(text: str) -> None:
    line = f"a: {quoted(text)}"
    assert len(line.splitlines()) == 1
    assert line.isprintable() or any(not c.isprintable() for c in text)
    found = Collector()
    (root,) = read_documents(line, found)
    assert found.done() == ()
    value = root.entries[0][1]  # type: ignore[union-attr]
    assert value == Scalar(text, plain=False)
