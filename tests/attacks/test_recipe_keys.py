"""Attack: keys that stand twice, are no text, or mean nothing."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import read_recipe_text
from mdm_kit.words import Place

HEAD = "merge_method: linear\nmodels: [{model: org/a}]\n"


def findings(text: str) -> list[tuple[str, Place | None]]:
    parsed = read_recipe_text(text)
    assert not parsed.ok
    return [(f.message, f.place) for f in parsed.findings]


def test_duplicate_keys_name_both_lines() -> None:
    assert findings(HEAD + "dtype: float16\ndtype: float32\n'dtype': float64\n") == [
        ("the key 'dtype' stands in line 3 already", Place(4, 1, 5)),
        ("the key 'dtype' stands in line 3 already", Place(5, 1, 7)),
    ]


def test_the_first_of_two_is_kept() -> None:
    parsed = read_recipe_text(HEAD + "seed: 1\nseed: 2\n")
    assert parsed.recipe is not None
    assert parsed.recipe.seed == 1


def test_duplicate_keys_anywhere() -> None:
    text = "merge_method: x\nmodels: [{model: a, parameters: {w: 1, w: 2}, model: b}]\n"
    assert [m for m, _ in findings(text)] == [
        "the key 'w' stands in line 2 already",
        "the key 'model' stands in line 2 already",
    ]


def test_two_merge_keys() -> None:
    text = "merge_method: x\nmodels:\n  - &a {model: a}\n  - {<<: *a, <<: *a, name: b}\n"
    assert findings(text)[0][0] == "the key '<<' stands in line 4 already"


@pytest.mark.parametrize(
    "key",
    ["1", "-1.5", "1e3", "0x1F", "012", "1_000", "12:30", ".inf", "-.INF", ".nan", "~", "null",
     "true", "False", "? [a, b]\n", "? {a: b}\n", "? \n"],
)  # fmt: skip
def test_keys_that_are_no_text(key: str) -> None:
    found = findings(f"{HEAD}{key}: x\n")
    assert len(found) == 1
    assert found[0][0].startswith("a key must be a text, found ")
    assert found[0][1] is not None
    assert found[0][1].line >= 3


@pytest.mark.parametrize(
    "key", ["'1'", '"true"', "no", "on", "off", "y", "2001-01-01", "=", "nope"]
)
def test_keys_that_are_text_are_merely_unknown(key: str) -> None:
    ((message, place),) = findings(f"{HEAD}{key}: x\n")
    assert message.startswith(f"unknown key '{key.strip(chr(39) + chr(34))}' of the recipe")
    assert place == Place(3, 1, len(key))


def test_endless_keys() -> None:
    ((message, _),) = findings(f"{HEAD}? {'k' * 5000}\n: x\n")
    assert message.startswith("a key has at most 200 characters, found kkk")
    assert len(message) < 150


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dtpye: x", "unknown key 'dtpye' of the recipe; did you mean 'dtype'?"),
        ("Dtype: x", "unknown key 'Dtype' of the recipe; did you mean 'dtype'?"),
        ("paramaters: {}", "unknown key 'paramaters' of the recipe; did you mean 'parameters'?"),
        (
            "merge-method: x",
            "unknown key 'merge-method' of the recipe; did you mean 'merge_method'?",
        ),
        ("qqqq: x", "unknown key 'qqqq' of the recipe"),
        ("normalize: true", "the parameter 'normalize' of the recipe stands outside 'parameters'"),
        ("weight: 1", "the parameter 'weight' of the recipe stands outside 'parameters'"),
        ("lambda: 1", "the parameter 'lambda' of the recipe stands outside 'parameters'"),
    ],
)
def test_unknown_keys_are_never_ignored(line: str, message: str) -> None:
    assert findings(f"{HEAD}{line}\n") == [(message, Place(3, 1, line.index(":")))]


def test_a_parameter_left_of_parameters_gets_the_line_to_write() -> None:
    parsed = read_recipe_text("merge_method: x\nmodels:\n  - model: a\n    weight: 0.5\n")
    (finding,) = parsed.findings
    assert finding.place == Place(4, 5, 6)
    assert finding.hint.startswith("did you mean parameters: {weight: ...}?")


def test_unknown_keys_at_every_level_at_once() -> None:
    text = (
        "merge_method: x\nmodels:\n  - {model: {path: a, revisionn: b}, nmae: c}\n"
        "parameters: {w: [{filter: a, vlue: 1}]}\ntokenizer: {sources: base}\n"
        "ledger: {keeps: none}\ncoefficients: {methods: fixed}\nmodles: 1\n"
    )
    messages = [m for m, _ in findings(text)]
    for key in ("revisionn", "nmae", "vlue", "sources", "keeps", "methods", "modles"):
        assert (
            len([m for m in messages if f"unknown key '{key}'" in m and "did you mean" in m]) == 1
        )
