"""One slice over all layers is a list of models; what is wrong with slices is said where it is."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import Recipe, read_recipe_text, resolve, rewrite_references

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
    "two slices": (
        "merge_method",
        "  - sources: [{model: org/a, layer_range: [8, 16]}]\nmerge_method",
        "puts 2 slices together, which is not available in this version",
        "10:5",
    ),
    "own base": (
        "merge_method",
        "    base_model: org/c\nmerge_method",
        "'base_model' of a slice is not available",
        "10:5",
    ),
    "beside models": ("dtype", "models: [{model: org/a}]\ndtype", "both say what is merged", "3:3"),
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
