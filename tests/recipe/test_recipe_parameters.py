"""Blocks of parameters: scalars, gradients, filters, and everything that is none of them."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import Filtered, Filters, Gradient, Parsed, Scalar, Setting, read_recipe_text
from mdm_kit.words import Level, Place


def parse(setting: str) -> Parsed:
    return read_recipe_text(
        f"merge_method: linear\nmodels: [{{model: a}}]\nparameters:\n  weight: {setting}\n"
    )


def setting_of(text: str) -> Setting | None:
    return parse(text).require().setting("weight")


def scalars(*texts: str) -> tuple[Scalar, ...]:
    return tuple(Scalar(text) for text in texts)


ANY = Place(1, 1)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("0.5", Scalar("0.5")),
        ("'0.5'", Scalar("0.5", plain=False)),
        ("[0, 1e-6, no]", Gradient(scalars("0", "1e-6", "no"), ANY)),
        ("[1]", Gradient(scalars("1"), ANY)),
        ("{value: 1}", Filters((Filtered(None, Scalar("1"), ANY),), ANY)),
        ("{value: 1, filter: mlp}", Filters((Filtered("mlp", Scalar("1"), ANY),), ANY)),
        (
            "[{filter: mlp, value: [0, 1]}, {filter: '*', value: x}]",
            Filters(
                (
                    Filtered("mlp", Gradient(scalars("0", "1"), ANY), ANY),
                    Filtered("*", Scalar("x"), ANY),
                ),
                ANY,
            ),
        ),
        ("[{filter: null, value: 1}]", Filters((Filtered(None, Scalar("1"), ANY),), ANY)),
        ("[{filter: 12, value: 1}]", Filters((Filtered("12", Scalar("1"), ANY),), ANY)),
    ],
)
def test_settings(text: str, setting: Setting) -> None:
    assert setting_of(text) == setting


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("", "the parameter 'weight' has no value", 10),
        ("[]", "the parameter 'weight' is an empty list", 11),
        ("[1, [2]]", "the parameter 'weight' holds a list inside a list", 15),
        ("[1, ~]", "the parameter 'weight' holds an empty value", 15),
        ("{mlp: 1}", "the parameter 'weight' is a mapping of other keys", 11),
        ("{}", "a filter of the parameter 'weight' has no 'value'", 11),
        ("{filter: x}", "a filter of the parameter 'weight' has no 'value'", 11),
        ("[{filter: x, value: ~}]", "the parameter 'weight' has no value", 31),
        ("[{filter: x, value: []}]", "the parameter 'weight' is an empty list", 31),
        ("[{filter: [x], value: 1}]", "a filter of the parameter 'weight': expected a part of a "
         "tensor's name, found a list", 21),
        ("[{value: 1, filtr: x}]", "unknown key 'filtr' in a filter of the parameter 'weight'; "
         "did you mean 'filter'?", 23),
        ("[{value: {value: 1}}]", "the parameter 'weight' holds a filter inside a filter", 20),
        ("[{value: [{value: 1}]}]", "the parameter 'weight' holds a filter inside a filter", 20),
        ("[{value: 1}, 3]", "the parameter 'weight' mixes filters with a single value", 24),
        ("[3, {filter: x, value: 1}]", "the parameter 'weight' mixes filters with a single value",
         12),
    ],
)  # fmt: skip
def test_settings_that_are_refused(text: str, message: str, column: int) -> None:
    parsed = parse(text)
    (finding,) = parsed.findings
    assert finding.message == message
    assert finding.place is not None
    assert (finding.place.line, finding.place.column) == (4, column)
    assert finding.hint or "did you mean" in message
    assert parsed.recipe is not None
    assert parsed.recipe.parameters == ()


def test_a_filter_behind_one_that_takes_all_is_a_warning() -> None:
    parsed = parse("[{value: 1}, {filter: mlp, value: 2}]")
    assert [f.level for f in parsed.findings] == [Level.WARNING]
    assert parsed.ok


def test_parameters_keep_their_order_and_places() -> None:
    parsed = read_recipe_text(
        "merge_method: x\nmodels:\n  - model: a\n    parameters:\n      b: 1\n      a: 2\n"
    )
    (entry,) = parsed.require().models
    assert [(p.name, p.place) for p in entry.parameters] == [
        ("b", Place(5, 7, 1)),
        ("a", Place(6, 7, 1)),
    ]


@pytest.mark.parametrize("block", ["parameters:", "parameters: {}", "parameters: ~"])
def test_an_empty_block(block: str) -> None:
    text = f"merge_method: x\nmodels: [{{model: a}}]\n{block}\n"
    assert read_recipe_text(text).require().parameters == ()
