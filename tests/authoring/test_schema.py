"""The schema says what the reader of recipes says: it takes what is right, refuses what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import mdm_kit
from mdm_kit.api import check_recipe
from mdm_kit.authoring.examples import example
from mdm_kit.methods.contract import Method, ParamSpec
from mdm_kit.methods.registry import methods
from mdm_kit.recipe import keys

SCHEMA = mdm_kit.recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yml"))

RIGHT = """\
merge_method: ties
base_model: a/base
models:
  - model: a/one@main
    name: one
    parameters: {weight: 0.5, density: [0.2, 0.6]}
  - model: {path: a/two, revision: v1}
  - model: {model: {path: a/base}, lora: a/lora}
    parameters:
      weight: [{filter: mlp, value: [0, 0.5]}, {value: 0.5}]
      density: {filter: mlp, value: 0.5}
parameters: {normalize: true, lambda: 1, int8_mask: true}
dtype: torch.bfloat16
out_dtype: float16
tokenizer: {source: base}
seed: 7
license: apache-2.0
name: merged
ledger: {keep: deltas}
coefficients: {method: fixed}
"""

MISTAKES = {
    "misspelt method": ("merge_method: ties", "merge_method: tise"),
    "misspelt key": ("out_dtype:", "out_dtpye:"),
    "a key of the recipe in a model": ("    name: one", "    dtype: float32"),
    "misspelt key of a model": ("    name: one", "    nmae: one"),
    "misspelt parameter": ("weight: 0.5", "wieght: 0.5"),
    "another method's parameter": ("normalize: true", "t: 0.5"),
    "another method's parameter of a model": ("weight: 0.5,", "weight: 0.5, gamma: 0.1,"),
    "a parameter outside parameters": ("seed: 7", "normalize: true"),
    "the merge's parameter under a model": ("weight: 0.5,", "weight: 0.5, normalize: true,"),
    "too dense": ("[0.2, 0.6]", "1.5"),
    "too dense in a gradient": ("[0.2, 0.6]", "[0.2, 1.5]"),
    "too dense in a filter": ("value: 0.5}\npara", "value: 1.5}\npara"),
    "text for a number": ("weight: 0.5", "weight: much"),
    "text for a boolean": ("normalize: true", "normalize: perhaps"),
    "misspelt filter": ("{filter: mlp, value: 0.5}", "{flter: mlp, value: 0.5}"),
    "filter without a value": ("{filter: mlp, value: 0.5}", "{filter: mlp}"),
    "filter inside a filter": ("[0, 0.5]", "[{value: 0.5}]"),
    "empty gradient": ("[0.2, 0.6]", "[]"),
    "unknown dtype": ("torch.bfloat16", "bfloat17"),
    "unstorable dtype": ("torch.bfloat16", "int8"),
    "no base": ("base_model: a/base\n", ""),
    "no method": ("merge_method: ties\n", ""),
    "a model without a model": ("model: a/one@main\n    name: one", "name: one"),
    "a seed below zero": ("seed: 7", "seed: -1"),
    "a name with a slash": ("    name: one", "    name: a/one"),
    "an unknown ledger": ("keep: deltas", "keep: everything"),
    "coefficients of later": ("method: fixed", "method: cma_es"),
    "a tokenizer of two": ("source: base", "source: [base, union]"),
    "a misspelt part of it": ("source: base", "sauce: base"),
    "a token that is forced to nothing": ("source: base", "tokens: {<x>: {force: true}}"),
    "a token without a mapping": ("source: base", "tokens: {<x>: base}"),
    "a row of no known kind": ("source: base", "tokens: {<x>: {source: {kind: mean}}}"),
    "a row of nobody": ("source: base", "tokens: {<x>: {source: {kind: model_token, token: a}}}"),
    "rows in multiples of nothing": ("source: base", "pad_to_multiple_of: 0"),
    "a template that is too short": ("seed: 7", "chat_template: llama5"),
    "two tokenizers": ("seed: 7", "tokenizer_source: base"),
    "slices": ("seed: 7", "slices: []"),
    "a misspelt reference": ("lora: a/lora", "lroa: a/lora"),
}


def valid(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(text))


def read(text: str) -> bool:
    """Whether the reader takes a recipe without an error."""
    return check_recipe(text).ok


def test_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    json.dumps(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_takes_every_key_at_once() -> None:
    assert list(VALIDATOR.iter_errors(yaml.safe_load(RIGHT))) == []
    assert read(RIGHT)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_takes_the_recipes(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_refuses_what_the_reader_refuses(mistake: str) -> None:
    before, after = MISTAKES[mistake]
    wrong = RIGHT.replace(before, after, 1)
    assert wrong != RIGHT
    assert not read(wrong)
    assert not valid(wrong)


def test_knows_every_key_and_says_what_it_means() -> None:
    places = {
        "recipe": (SCHEMA, keys.TOP_KEYS),
        "model": (SCHEMA["properties"]["models"]["items"], keys.ENTRY_KEYS),
        "ledger": (SCHEMA["properties"]["ledger"], keys.LEDGER_KEYS),
    }
    for at, meanings in places.values():
        assert at["properties"].keys() == meanings.keys()
        assert at["additionalProperties"] is False
        assert all(at["properties"][key]["description"] == meanings[key] for key in meanings)


def test_every_method_is_offered_with_its_title() -> None:
    offered = SCHEMA["properties"]["merge_method"]
    titles = dict(zip(offered["enum"], offered["enumDescriptions"], strict=True))
    assert titles == {name: method.title for name, method in methods().items()}


@pytest.mark.parametrize("method", methods().values(), ids=methods())
def test_takes_each_methods_example(method: Method) -> None:
    assert list(VALIDATOR.iter_errors(yaml.safe_load(example(method)))) == []


def wrong_and_right(spec: ParamSpec) -> Iterator[Any]:
    low, high = spec.minimum, spec.maximum
    if spec.listed:
        yield from ("_proj", ["a.*", "b"], "", ["a", ""], {"filter": "x", "value": "a"}, [["a"]])
    elif spec.choices:
        yield from (spec.choices[-1], "another", [spec.choices[0]])
        if spec.type is float:
            yield from (0.5, [0.5], *([] if low is None else [low - 1]))
    elif spec.type is bool:
        yield from (True, [False, True], "perhaps", {"filter": "x", "value": False})
    else:
        inside = max(0.5, low or 0.0) if high is None else (low or 0.0) / 2 + high / 2
        outside = [low - 1] if low is not None else []
        outside += [high + 1] if high is not None else []
        for value in (inside, *outside, "much"):
            yield from (
                value,
                [inside, value],
                {"filter": "x", "value": value},
                [{"value": [value]}],
            )
        yield from ({"filter": "x", "valeu": inside}, [[inside]], [{"value": [inside]}, inside])


KINDS = {
    (s.type, s.minimum, s.maximum, s.choices, s.constant, s.listed, s.per_model): (method, s)
    for method in methods().values()
    for s in method.params.specs()
}


@pytest.mark.parametrize(
    ("method", "spec"), KINDS.values(), ids=lambda made: made.name if made else ""
)
def test_judges_a_value_as_the_reader_does(method: Method, spec: ParamSpec) -> None:
    recipe = yaml.safe_load(example(method))
    judged = []
    for holder in (recipe, recipe["models"][0]):
        place = holder.setdefault("parameters", {})
        kept = dict(place)
        for value in wrong_and_right(spec):
            place[spec.name] = value
            text = yaml.safe_dump(recipe, sort_keys=False)
            judged.append(read(text))
            assert VALIDATOR.is_valid(recipe) is judged[-1], text
        holder["parameters"] = kept
    assert {True, False} <= set(judged)


@pytest.mark.parametrize("method", methods().values(), ids=methods())
def test_offers_each_method_its_own_parameters(method: Method) -> None:
    offered = SCHEMA["$defs"][f"method-{method.name}"]["properties"]
    specs = method.params.specs()
    of_models = offered["models"]["items"]["properties"]["parameters"]["properties"]
    assert offered["parameters"]["properties"].keys() == {s.name for s in specs} | {"int8_mask"}
    assert of_models.keys() == {s.name for s in specs if s.per_model} | {"int8_mask"}
    for s in specs:
        assert s.inert or s.help[1:] in offered["parameters"]["properties"][s.name]["description"]


@pytest.mark.parametrize("change", ["gate_mode", "experts_per_token", "negativ_prompts", "none"])
def test_judges_a_mixture_as_the_reader_does(change: str) -> None:
    recipe = yaml.safe_load(example(methods()["moe"]))
    if change == "negativ_prompts":
        recipe["experts"][0][change] = ["x"]
    elif change != "none":
        recipe[change] = -1
    assert VALIDATOR.is_valid(recipe) is read(yaml.safe_dump(recipe)) is (change == "none")
    del recipe["merge_method"]
    assert VALIDATOR.is_valid(recipe) is (change == "none")


@pytest.mark.parametrize("method", [m for n, m in methods().items() if n != "moe"])
def test_counts_models_and_wants_the_base_as_the_reader_does(method: Method) -> None:
    recipe = yaml.safe_load(example(method))
    fewer = recipe | {"models": recipe["models"][: method.min_models - 1]}
    assert not VALIDATOR.is_valid(fewer)
    if method.max_models is not None:
        more = [{"model": f"a/m{i}"} for i in range(method.max_models + 2)]
        many = recipe | {"models": [m | recipe["models"][0] | m for m in more]}
        assert not read(yaml.safe_dump(many))
        assert not VALIDATOR.is_valid(many)
    if method.needs_base:
        listed = recipe | {"models": [{"model": recipe["base_model"]}, *recipe["models"]]}
        assert read(yaml.safe_dump(listed))
        assert VALIDATOR.is_valid(listed)
        without = {k: v for k, v in recipe.items() if k != "base_model"}
        assert not VALIDATOR.is_valid(without)


@pytest.mark.parametrize("method", methods().values(), ids=methods())
def test_keeps_deltas_where_the_reader_does(method: Method) -> None:
    recipe = yaml.safe_load(example(method)) | {
        "base_model": "a/base",
        "ledger": {"keep": "deltas"},
    }
    assert VALIDATOR.is_valid(recipe) is read(yaml.safe_dump(recipe))
