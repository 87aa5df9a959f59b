"""Names: given, or made from the reference; where they collide, the whole path."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import check_name, read_recipe_text
from mdm_kit.recipe.names import MAX_NAME
from mdm_kit.recipe.scalars import WrongValue


def names_of(*items: str) -> tuple[list[str], list[str]]:
    text = "merge_method: linear\nmodels:\n" + "".join(f"  - {item}\n" for item in items)
    parsed = read_recipe_text(text)
    assert parsed.recipe is not None
    return [m.name for m in parsed.recipe.models], [f.message for f in parsed.findings]


@pytest.mark.parametrize(
    ("items", "names"),
    [
        (["{model: org/a}", "{model: org/b@v1}"], ["a", "b"]),
        (["{model: org/a+org/lora@x}"], ["lora"]),
        (["{model: ./models/a/}"], ["a"]),
        (["{model: gpt2}"], ["gpt2"]),
        (["{model: org/a, name: math}", "{model: org/a, name: code}"], ["math", "code"]),
        (["{model: one/a}", "{model: two/a}", "{model: one/b}"], ["one/a", "two/a", "b"]),
        (["{model: one/a}", "{model: two/a/}"], ["one/a", "two/a"]),
        (["{model: one/a, name: b}", "{model: one/b}"], ["b", "one/b"]),
        (["{model: x/m+one/a}", "{model: x/m+two/a}"], ["one/a", "two/a"]),
        (["{model: org/a, name: ~}"], ["a"]),
        (["{model: '" + "local:base@sha256:" + "0a" * 32 + "'}"], ["base"]),
    ],
)
def test_names(items: list[str], names: list[str]) -> None:
    assert names_of(*items) == (names, [])


def test_names_that_are_still_equal_are_refused() -> None:
    _, messages = names_of("{model: org/a@v1}", "{model: org/a@v2}")
    assert messages == ["the name 'org/a' is taken by the model in line 3"]
    _, messages = names_of("{model: org/a, name: x}", "{model: org/b, name: x}")
    assert messages == ["the name 'x' is taken by the model in line 3"]


@pytest.mark.parametrize("path", ["..", "/", "models/.hidden", "./-x"])
def test_defaults_that_are_no_names_ask_for_one(path: str) -> None:
    _, messages = names_of(f"{{model: {path}}}")
    assert len(messages) == 1
    assert messages[0].endswith("it comes from the path")
    assert names_of(f"{{model: {path}, name: fine}}") == (["fine"], [])


@pytest.mark.parametrize("name", ["a", "x" * MAX_NAME, "math v2", "数学", "a.b-c_d", "1"])
def test_fit_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", " a", "a ", "x" * (MAX_NAME + 1), "a/b", "a\\b", "a\nb", "a\x1bb", "a\u202eb",
     ".a", "..", "-rf", "a\x00", "a\u2028b"],
)  # fmt: skip
def test_unfit_names(name: str) -> None:
    with pytest.raises(WrongValue):
        check_name(name)
