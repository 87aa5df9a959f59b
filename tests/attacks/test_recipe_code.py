"""Attack: import paths, templates and shell text in values; they are text and stay text."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import read_recipe_text

VALUES = [
    "os.system",
    "mdm_kit.methods.linear:linear",
    "__import__('os').system('exit 1')",
    "{{ config.items() }}",
    "{% for x in y %}",
    "${HOME}/m",
    "$(exit 1)",
    "`exit 1`",
    "%(path)s",
    "{0.__class__}",
    "~root/m",
    "*.safetensors",
]


@pytest.mark.parametrize("value", VALUES)
def test_values_are_kept_letter_for_letter(value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    text = (
        f"merge_method: {quoted}\nmodels: [{{model: {quoted}, name: x}}]\n"
        f"parameters: {{p: {quoted}, q: [{{filter: {quoted}, value: {quoted}}}]}}\n"
    )
    recipe = read_recipe_text(text).require()
    assert recipe.merge_method.text == value
    assert recipe.models[0].ref.path == value
    assert [p.name for p in recipe.parameters] == ["p", "q"]
    assert value in str(recipe.setting("p"))


def test_an_unquoted_template_is_no_text() -> None:
    parsed = read_recipe_text("merge_method: {{ x }}\nmodels: [{model: a}]\n")
    assert not parsed.ok
    assert any("a key must be a text, found a mapping" in f.message for f in parsed.findings)
