"""Attack: gradients, filters and mappings where a single value belongs."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import read_recipe_text

HEAD = {
    "merge_method": "merge_method: linear",
    "models": "models: [{model: org/a}]",
}


@pytest.mark.parametrize("value", ["[0, 1]", "[{filter: mlp, value: 1}]", "[[]]"])
@pytest.mark.parametrize(
    "key",
    ["merge_method", "base_model", "dtype", "out_dtype", "seed", "name", "license", "ledger",
     "coefficients", "tokenizer", "tokenizer_source", "parameters"],
)  # fmt: skip
def test_lists_outside_parameters(key: str, value: str) -> None:
    lines = HEAD | {key: f"{key}: {value}"}
    parsed = read_recipe_text("\n".join(lines.values()))
    assert not parsed.ok
    assert len(parsed.findings) == 1
    assert parsed.findings[0].message.startswith(f"{key}: ")


@pytest.mark.parametrize("key", ["model", "name", "parameters"])
def test_lists_in_a_model(key: str) -> None:
    item = {"model": "org/a"} | {key: "[0, 1]"}
    entries = ", ".join(f"{k}: {v}" for k, v in item.items())
    parsed = read_recipe_text(f"merge_method: x\nmodels: [{{{entries}}}]\n")
    assert not parsed.ok
    assert len(parsed.findings) == 1
    assert parsed.findings[0].message.startswith(f"{key}: ")


@pytest.mark.parametrize(
    "value",
    ["[]", "[[0, 1]]", "[0, [1]]", "[0, {value: 1}]", "[{value: 1}, [0, 1]]", "{a: b}",
     "{filter: a}", "{value: {value: 1}}", "[{value: [[1]]}]", "[{value: [{value: 1}]}]", "[~]"],
)  # fmt: skip
def test_gradients_that_are_none(value: str) -> None:
    parsed = read_recipe_text("\n".join(HEAD.values()) + f"\nparameters: {{weight: {value}}}\n")
    assert not parsed.ok
    assert all("the parameter 'weight'" in f.message for f in parsed.findings)
    assert all(f.place is not None and f.place.line == 3 for f in parsed.findings)
