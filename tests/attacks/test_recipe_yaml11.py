"""Attack: values that YAML 1.1 quietly turns into something else."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import Scalar, WrongValue, read_recipe_text


def weight(text: str) -> Scalar:
    recipe = read_recipe_text(
        f"merge_method: x\nmodels: [{{model: a}}]\nparameters: {{weight: {text}}}\n"
    ).require()
    setting = recipe.setting("weight")
    assert isinstance(setting, Scalar)
    return setting


def test_1e_minus_6_is_a_number() -> None:
    assert weight("1e-6").as_number() == 1e-6


@pytest.mark.parametrize("text", ["no", "on", "Yes", "OFF", "y", "n"])
def test_no_and_on_are_texts(text: str) -> None:
    assert weight(text).as_text() == text


@pytest.mark.parametrize(("text", "value"), [("no", False), ("on", True), ("Yes", True)])
def test_unless_a_boolean_is_wanted(text: str, value: bool) -> None:
    assert weight(text).as_boolean() is value


@pytest.mark.parametrize("text", ["012", "12:30", "1_000", "0x10", "0b11", "190:20:30.15"])
def test_never_silently_converted(text: str) -> None:
    assert weight(text).as_text() == text
    with pytest.raises(WrongValue):
        weight(text).as_number()


@pytest.mark.parametrize("text", ["2001-01-01", "2001-12-14t21:59:43.10-05:00", "=", "<<"])
def test_dates_and_values_stay_text(text: str) -> None:
    assert weight(text).as_text() == text


def test_names_and_revisions_stay_as_written() -> None:
    recipe = read_recipe_text(
        "merge_method: no\nmodels:\n"
        "  - {model: {path: 012, revision: 1e10}, name: on}\n"
        "  - {model: 12:30, name: 1_0}\n"
        "license: no\nname: 007\n"
    ).require()
    assert recipe.merge_method.text == "no"
    assert [(str(m.ref), m.name) for m in recipe.models] == [("012@1e10", "on"), ("12:30", "1_0")]
    assert (recipe.license, recipe.name) == ("no", "007")


@pytest.mark.parametrize("seed", ["012", "0x10", "1_000", "12:30", "yes"])
def test_a_seed_is_no_riddle(seed: str) -> None:
    parsed = read_recipe_text(f"merge_method: x\nmodels: [{{model: a}}]\nseed: {seed}\n")
    assert [f.message for f in parsed.findings] == [
        f"seed: expected a whole number, found '{seed}'"
    ]


@pytest.mark.parametrize("text", ["nan", ".nan", "inf", "-.inf", "Infinity", "1e400"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(WrongValue, match=r"finite|float64"):
        weight(text).as_number()
    parsed = read_recipe_text(f"merge_method: x\nmodels: [{{model: a}}]\nseed: {text}\n")
    assert not parsed.ok
