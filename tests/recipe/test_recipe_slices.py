"""Slices and modules as they are read; what is wrong with them is said where it is."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import (
    Recipe,
    edited_text,
    read_recipe_text,
    resolve,
    rewrite_references,
)

WHOLE = """
slices:
  - sources:
      - model: org/a
        layer_range: [0, 32]
        parameters: {weight: [{filter: mlp, value: 1}]}
      - {model: org/b, layer_range: [0, 32]}
    parameters:
      weight: [{filter: attn, value: [0, 1]}]
merge_method: linear
parameters:
  weight: 0.25
  normalize: false
dtype: float16
"""


def recipe(text: str) -> Recipe:
    return read_recipe_text(text).require()


def weight(r: Recipe, model: int, tensor: str, t: float) -> float | None:
    levels = (r.models[model].setting("weight"), r.setting("weight"))
    return resolve(levels, tensor, t, lambda s: float(s.as_number()))


def test_levels_come_one_after_the_other() -> None:
    r = recipe(WHOLE)
    assert [m.name for m in r.models] == ["a", "b"]
    assert [m.layer_range for m in r.models] == [(0, 32), (0, 32)]
    assert weight(r, 0, "mlp", 0.5) == 1
    assert weight(r, 1, "mlp", 0.5) == 0.25
    assert weight(r, 0, "attn", 0.5) == 0.5
    assert weight(r, 1, "norm", 1.0) == 0.25
    assert r.setting("normalize") is not None
    assert r.dialect


def test_a_slice_s_plain_value_hides_the_recipe_s() -> None:
    r = recipe(WHOLE.replace("[{filter: attn, value: [0, 1]}]", "0.75"))
    assert weight(r, 1, "attn", 0.0) == weight(r, 1, "norm", 0.0) == 0.75


def test_references_are_rewritten_in_place() -> None:
    r = recipe(WHOLE)
    text = rewrite_references(r, lambda ref: f"local:{ref.path[-1]}@sha256:" + 64 * "0")
    again = recipe(text)
    assert [m.ref.path for m in again.models] == ["local:a", "local:b"]
    assert "org/" not in text


WRONG = {
    "no layer": ("[0, 32]}", "[8, 8]}", "layer_range: [8, 8] holds no layer", "7:37"),
    "backwards": ("[0, 32]}", "[9, 8]}", "holds no layer", "7:37"),
    "below 0": ("[0, 32]}", "[-1, 8]}", "begins below 0", "7:37"),
    "one number": ("[0, 32]}", "[32]}", "expected two numbers", "7:37"),
    "no number": ("[0, 32]}", "[0, all]}", "layer_range: expected a whole number", "7:41"),
    "not at all": (", layer_range: [0, 32]}", "}", "has no 'layer_range'", "7:9"),
    "other length": ("[0, 32]}", "[0, 31]}", "the same number of layers, found 31 beside", "7:9"),
    "misspelt": (
        "layer_range: [0, 32]}",
        "layer_rnage: [0, 32]}",
        "did you mean 'layer_range'",
        "",
    ),
    "beside models": ("dtype", "models: [{model: org/a}]\ndtype", "both say what is merged", "3:3"),
    "beside modules": ("dtype", "modules: {a: {models: []}}\ndtype", "both say what is merged", ""),
    "no sources": ("  - sources:", "  - source:", "did you mean 'sources'", "3:5"),
}


@pytest.mark.parametrize(("old", "new", "message", "where"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_where_it_is(old: str, new: str, message: str, where: str) -> None:
    assert old in WHOLE
    parsed = read_recipe_text(WHOLE.replace(old, new, 1))
    assert not parsed.ok
    found = [line for line in parsed.render().splitlines() if message in line]
    assert found, parsed.render()
    assert where in found[0], found


MODULES = """
modules:
  text_decoder:
    slices:
      - sources:
          - {model: org/a, layer_range: [0, 4], parameters: {weight: 1}}
          - {model: org/b/c, name: bee, layer_range: [4, 8]}
        parameters: {weight: [{filter: attn, value: 2}]}
      - base_model: org/a
        sources:
          - {model: org/b/c, layer_range: [0, 2]}
    parameters: {weight: 3}
  vision_tower:
    models: [{model: org/a}, {model: org/d}]
merge_method: linear
parameters: {weight: 4}
"""


def test_modules_hold_slices_and_each_model_once() -> None:
    r = recipe(MODULES.replace("org/b/c", "org/b"))
    assert [m.name for m in r.models] == ["a", "bee", "d"]
    assert [m.parameters for m in r.models] == [(), (), ()]
    text, vision = r.modules
    assert (text.name, vision.name) == ("text_decoder", "vision_tower")
    assert [[m.name for m in s.models] for s in text.slices] == [["a", "bee"], ["bee"]]
    assert text.slices[1].base_model is not None
    assert [m.layer_range for m in vision.slices[0].models] == [None, None]
    assert len(r.references) == 6
    assert not r.dialect


def test_an_edited_recipe_of_modules_says_the_same_without_a_model() -> None:
    r = recipe(MODULES.replace("org/b/c", "org/b"))
    again = recipe(edited_text(r))
    assert [(m.name, m.parameters) for m in again.modules] == [
        (m.name, m.parameters) for m in r.modules
    ]
    for had, has in zip(r.modules, again.modules, strict=True):
        assert [s.parameters for s in has.slices] == [s.parameters for s in had.slices]
        assert [[m.layer_range for m in s.models] for s in has.slices] == [
            [m.layer_range for m in s.models] for s in had.slices
        ]
    assert again.modules[0].slices[1].base_model is not None
    left = recipe(edited_text(r, drop=["a"]))
    assert [m.name for m in left.models] == ["bee", "d"]
    assert [len(m.slices) for m in left.modules] == [2, 1]


def test_every_reference_of_a_slice_is_rewritten() -> None:
    r = recipe(MODULES.replace("org/b/c", "org/b"))
    text = rewrite_references(r, lambda ref: f"local:{ref.path[-1]}@sha256:" + 64 * "0")
    assert "org/" not in text
    assert [m.name for m in recipe(text).models] == ["a", "bee", "d"]


def test_two_names_for_one_model_are_refused() -> None:
    text = MODULES.replace("org/b/c, layer", "org/b, name: wasp, layer").replace("org/b/c", "org/b")
    parsed = read_recipe_text(text)
    assert "two names, 'bee' and 'wasp'" in parsed.render()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    models: [{model: org/a}, {model: org/d}]", "    weight: 3", "found neither"),
        ("    models:", "    slices: []\n    models:", "found both 'models' and 'slices'"),
        ("    models:", "    model:", "did you mean 'models'"),
        ("\n    models: [{model: org/a}, {model: org/d}]", " 3", "expected a mapping under"),
    ],
)
def test_what_is_wrong_with_a_module_is_said(old: str, new: str, message: str) -> None:
    assert old in MODULES
    assert message in read_recipe_text(MODULES.replace(old, new, 1)).render()


def test_a_module_that_loses_its_models_takes_its_parameters_along() -> None:
    text = """
merge_method: linear
modules:
  vision_tower: {models: [{model: org/c}], parameters: {normalize: false}}
  text_decoder: {models: [{model: org/a}, {model: org/b}]}
parameters: {weight: 1}
"""
    left = recipe(edited_text(recipe(text), drop=["c"]))
    assert [(m.name, m.parameters) for m in left.modules] == [("text_decoder", ())]
