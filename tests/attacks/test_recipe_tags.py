"""Attack: YAML tags, which in careless readers build objects and run code."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import read_recipe_text

RECIPE = "merge_method: {}\nmodels: [{{model: org/a}}]\n"


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['exit 1']",
        "!!python/name:os.system",
        "!!python/object/new:type {a: b}",
        "!!str linear",
        "!!int 3",
        "!mine linear",
        "! linear",
        "!<tag:yaml.org,2002:str> linear",
        "!!binary aGk=",
    ],
)
def test_no_tag_is_accepted(value: str) -> None:
    parsed = read_recipe_text(RECIPE.format(value))
    tags = [f for f in parsed.findings if f.message.startswith("the YAML tag")]
    assert len(tags) == 1
    assert tags[0].place is not None
    assert (tags[0].place.line, tags[0].place.column) == (1, 15)
    assert not parsed.ok


def test_tags_on_keys_and_inside_are_found_all() -> None:
    text = "!!str merge_method: linear\nmodels: !!seq [!!map {!a model: !b org/a}]\n"
    parsed = read_recipe_text(text)
    tags = [f.message for f in parsed.findings if f.message.startswith("the YAML tag")]
    assert len(tags) == 5


def test_quoted_exclamation_marks_are_text() -> None:
    assert read_recipe_text(RECIPE.format("'!!str linear'")).ok


@pytest.mark.parametrize("line", ["%TAG ! tag:x,2000:", "%TAG !e! tag:x", "%FOO bar"])
def test_directives_are_refused(line: str) -> None:
    parsed = read_recipe_text(f"{line}\n---\n" + RECIPE.format("linear"))
    assert [f.message for f in parsed.findings] == [
        "a line that starts with '%' is a YAML directive; none is accepted"
    ]


def test_the_yaml_version_may_be_named() -> None:
    assert read_recipe_text("%YAML 1.1\n---\n" + RECIPE.format("linear")).ok
