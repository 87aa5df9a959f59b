"""Settings as plain JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdm_kit.recipe import plain_setting, read_recipe_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-6", 1e-6),
        ("'1'", "1"),
        ("true", True),
        ("'true'", "true"),
        ("no", "no"),
        ("012", "012"),
        (".nan", ".nan"),
        ("[0, 0.5, auto]", [0, 0.5, "auto"]),
        ("{value: 1}", [{"filter": None, "value": 1}]),
        ("[{filter: mlp, value: [0, 1]}]", [{"filter": "mlp", "value": [0, 1]}]),
    ],
)
def test_plain_settings(text: str, value: Any) -> None:
    recipe = read_recipe_text(
        f"merge_method: x\nmodels: [{{model: a}}]\nparameters: {{p: {text}}}\n"
    ).require()
    setting = recipe.setting("p")
    assert setting is not None
    plain = plain_setting(setting)
    assert plain == value
    assert json.dumps(plain, allow_nan=False) == json.dumps(value)
