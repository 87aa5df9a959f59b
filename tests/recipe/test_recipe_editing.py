"""A recipe with models taken out or put in says of all else what it said before."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import Addition, Recipe, edited_text, plain_setting, read_recipe_text

FULL = """\
merge_method: mdm_oc
base_model: {model: {path: "org/ba+se"}}   # a comment
models:
  - {model: org/a@v1, name: first, parameters: {weight: 1e-6}}
  - model: org/b
    parameters:
      weight:
        - {filter: "mlp, [x]", value: [0, 0.5, 1]}
        - {value: .25}
  - model: "local:c+d@sha256:0000000000000000000000000000000000000000000000000000000000000000"
parameters:
  scope: 'layer'
  normalize: yes
  lambda: +0.80
dtype: bfloat16
out_dtype: float32
seed: 18446744073709551615
name: "a: b"
license: apache-2.0
ledger: {keep: deltas+base}
"""


def parsed(text: str) -> Recipe:
    found = read_recipe_text(text)
    assert found.ok, found.render()
    assert found.recipe is not None
    return found.recipe


def said(recipe: Recipe) -> list[object]:
    """All a recipe says, without places."""
    models = [
        (str(m.ref), m.named, m.name if m.named else None, settings(m.parameters))
        for m in recipe.models
    ]
    base = None if recipe.base_model is None else str(recipe.base_model.ref)
    keys = ("dtype", "out_dtype", "seed", "name", "license", "ledger")
    rest = [getattr(recipe, key) for key in keys]
    return [recipe.merge_method.text, base, models, settings(recipe.parameters), *rest]


def settings(parameters):  # type: ignore[no-untyped-def]
    return [(p.name, plain_setting(p.setting)) for p in parameters]


@pytest.fixture
def recipe() -> Recipe:
    return parsed(FULL.replace('"org/ba+se"', "org/base"))


def test_nothing_changes(recipe: Recipe) -> None:
    again = parsed(edited_text(recipe))
    assert said(again) == said(recipe)
    booleans = [r.setting("normalize") for r in (again, recipe)]
    assert [b.as_boolean() for b in booleans] == [True, True]  # type: ignore[union-attr]
    assert edited_text(again) == edited_text(recipe)


@pytest.mark.parametrize("drop", [{"first"}, {"b"}, {"first", "c+d"}])
def test_models_go(recipe: Recipe, drop: set[str]) -> None:
    again = said(parsed(edited_text(recipe, drop=drop)))
    wanted = said(recipe)
    names = [m.name for m in recipe.models]
    wanted[2] = [m for m, n in zip(wanted[2], names, strict=True) if n not in drop]  # type: ignore[call-overload]
    assert again == wanted


def test_models_come(recipe: Recipe) -> None:
    new = [Addition("org/x@main", "x", 0.1), Addition("./my 'folder'", None, None)]
    again = parsed(edited_text(recipe, add=new))
    assert said(again)[2][:3] == said(recipe)[2]  # type: ignore[index]
    first, second = again.models[3:]
    assert (str(first.ref), first.name, settings(first.parameters)) == (
        "org/x@main",
        "x",
        [("weight", 0.1)],
    )
    assert (str(second.ref), second.named, second.parameters) == ("./my 'folder'", False, ())


def test_parameters_are_reset(recipe: Recipe) -> None:
    again = parsed(edited_text(recipe, reset={"weight"}))
    assert all(not m.parameters for m in again.models)
    assert [name for name, _ in settings(again.parameters)] == ["scope", "normalize", "lambda"]


def test_copies_of_a_published_folder_have_names_of_their_own() -> None:
    """Two folders called `math`, and one of them twice: a merge's recipe can be read again."""
    digests = ["1" * 64, "2" * 64, "1" * 64]
    lines = "".join(f'  - model: "local:math@sha256:{d}"\n' for d in digests)
    names = [m.name for m in parsed(f"merge_method: linear\nmodels:\n{lines}").models]
    assert names == ["math-11111111", "math-22222222", "math-11111111-2"]
