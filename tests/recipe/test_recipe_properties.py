"""Any recipe that is valid reads back; any text at all comes to findings, never to a traceback."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_strategies import flow, recipes

from mdm_kit.recipe import (
    Gradient,
    Parameter,
    Parsed,
    Scalar,
    Setting,
    read_recipe_text,
    rewrite_references,
)
from mdm_kit.words import Level


def value(scalar: Scalar) -> Any:
    """Return what JSON wrote: text in quotes, everything else without."""
    if not scalar.plain:
        return scalar.text
    return scalar.as_boolean() if scalar.text in ("true", "false") else scalar.as_number()


def plain(setting: Setting) -> Any:
    if isinstance(setting, Scalar):
        return value(setting)
    if isinstance(setting, Gradient):
        return [value(v) for v in setting.values]
    return [
        {"value": plain(e.value)} | ({} if e.filter is None else {"filter": e.filter})
        for e in setting.entries
    ]


def block(parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    return {p.name: plain(p.setting) for p in parameters}


def check_places(parsed: Parsed) -> None:
    """Every reference's span and every parameter's place hold the text they are said to hold."""
    recipe = parsed.recipe
    assert recipe is not None
    lines = recipe.text.split("\n")
    for located in recipe.references:
        assert str(located.ref) in recipe.text[slice(*located.span)]
    for parameter in (*recipe.parameters, *(p for m in recipe.models for p in m.parameters)):
        place = parameter.place
        at = lines[place.line - 1][place.column - 1 :][: place.length]
        assert at.strip("\"'") == parameter.name


@given(recipes, st.sampled_from(["flow", "block", "indented"]))
@settings(deadline=None)
def test_any_recipe_reads_back(data: dict[str, Any], style: str) -> None:
    text = {
        "flow": lambda: flow(data),
        "block": lambda: yaml.safe_dump(data, default_style='"', sort_keys=False),
        "indented": lambda: json_lines(data),
    }[style]()
    if style == "block":
        text = re.sub(r"!!\w+ \"([^\"]*)\"", r"\1", text)  # numbers and booleans, without tags
    parsed = read_recipe_text(text)
    assert [f for f in parsed.findings if f.level is Level.ERROR] == []
    recipe = parsed.require()
    assert recipe.merge_method.text == data["merge_method"]
    assert [m.ref.path for m in recipe.models] == [m["model"] for m in data["models"]]
    assert [block(m.parameters) for m in recipe.models] == [m["parameters"] for m in data["models"]]
    assert block(recipe.parameters) == data.get("parameters", {})
    assert (recipe.base_model and recipe.base_model.ref.path) == data.get("base_model")
    assert recipe.seed == data.get("seed", 0)
    assert recipe.license == data.get("license")
    assert (recipe.dtype and recipe.dtype.torch_name) == (
        data["dtype"].removeprefix("torch.") if "dtype" in data else None
    )
    assert len({m.name for m in recipe.models}) == len(recipe.models)
    assert recipe.dialect == (not data.keys() & {"seed", "license"})
    check_places(parsed)


def json_lines(data: dict[str, Any]) -> str:
    """Return the recipe with one top-level key per line."""
    return "# a recipe\n" + "".join(f"{key}: {flow(data[key])}  # c\n" for key in data)


@given(recipes)
@settings(max_examples=50, deadline=None)
def test_references_can_be_replaced_in_any_recipe(data: dict[str, Any]) -> None:
    recipe = read_recipe_text(json_lines(data)).require()
    new = rewrite_references(recipe, lambda ref: f"{ref.path}@pin")
    again = read_recipe_text(new).require()
    assert [r.ref.path for r in again.references] == [r.ref.path for r in recipe.references]
    assert {r.ref.revision for r in again.references} == {"pin"}
    assert again.parameters == recipe.parameters


pieces = st.sampled_from(
    ["merge_method: ", "models:", "\n", "\n  - ", "model: ", "org/a", "{", "}", "[", "]", ",",
     "&a ", "*a", "<<: ", "? ", ": ", "'", '"', "|", ">", "!x ", "---", "...", "#", "%YAML 1.1",
     "\t", "~", "parameters: ", "filter: ", "value: ", "dtype: ", "seed: ", "ledger: ", "name: ",
     "0", "\\x00", "tokenizer: ", "base_model: ", "é", "\u2028", "\ufeff", "\x85", "😀"]
)  # fmt: skip


def check_any(data: str | bytes) -> None:
    parsed = read_recipe_text(data)
    assert (parsed.recipe is not None) or any(f.level is Level.ERROR for f in parsed.findings)
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", parsed.text)
    for finding in parsed.findings:
        if finding.place is not None:
            assert 1 <= finding.place.line <= len(lines) + 1
            assert finding.place.column >= 1
            assert finding.place.length >= 1
            if finding.place.line <= len(lines):
                assert finding.place.column <= len(lines[finding.place.line - 1]) + 1
    assert bool(parsed.render()) == bool(parsed.findings)


@given(st.text() | st.lists(pieces, max_size=40).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_comes_to_findings(text: str) -> None:
    check_any(text)


@given(st.binary())
@settings(deadline=None)
def test_any_bytes_come_to_findings(data: bytes) -> None:
    check_any(data)


@given(recipes, st.data())
@settings(max_examples=150, deadline=None)
def test_any_harm_to_a_recipe_comes_to_findings(data: dict[str, Any], draw: st.DataObject) -> None:
    text = json_lines(data)
    start = draw.draw(st.integers(0, len(text)))
    stop = draw.draw(st.integers(start, min(len(text), start + 10)))
    check_any(text[:start] + draw.draw(st.text(max_size=5) | pieces) + text[stop:])
