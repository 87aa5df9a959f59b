"""Reports: the caret stands under the place, whatever the line is made of."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.recipe import read_recipe_text, render
from mdm_kit.recipe.report import WINDOW
from mdm_kit.words import Finding, Kind, Level, Place


def finding(place: Place | None, message: str = "wrong", hint: str = "") -> Finding:
    return Finding(Level.ERROR, Kind.RECIPE, message, hint, place)


def test_the_whole_form() -> None:
    text = "merge_method: linear\nmodels: [{model: org/a}]\ndtpye: float16\nseed: 012\n"
    assert read_recipe_text(text).render() == (
        "recipe.yml:3:1: error: unknown key 'dtpye' of the recipe; did you mean 'dtype'?\n"
        "    dtpye: float16\n"
        "    ^^^^^\n"
        "recipe.yml:4:7: error: seed: expected a whole number, found '012'\n"
        "    seed: 012\n"
        "          ^^^\n"
        "    hint: drop the leading zero; some readers of YAML would take this for an octal number"
    )


def test_findings_come_in_the_order_of_their_places() -> None:
    report = render([finding(None), finding(Place(2, 1)), finding(Place(1, 3))], "ab c\nd", "f.yml")
    heads = [line for line in report.splitlines() if line.startswith("f.yml")]
    assert heads == ["f.yml:1:3: error: wrong", "f.yml:2:1: error: wrong", "f.yml: error: wrong"]
    assert render([], "a") == ""


def test_without_a_place_there_is_no_caret() -> None:
    assert render([finding(None, hint="do it")], "a", "f") == "f: error: wrong\n    hint: do it"


def test_a_place_past_the_text_is_no_trouble() -> None:
    assert render([finding(Place(9, 1))], "a", "f") == "f:9:1: error: wrong"
    assert render([finding(Place(1, 9))], "a", "f").endswith("\n    a\n     ^")


@pytest.mark.parametrize(
    ("line", "place", "shown", "carets"),
    [
        ("a: b", Place(1, 4, 1), "a: b", "   ^"),
        ("\ta: b", Place(1, 5, 1), "    a: b", "       ^"),
        ("数学: x", Place(1, 5, 1), "数学: x", "      ^"),
        ("x: 数学", Place(1, 4, 2), "x: 数学", "   ^^^^"),
        ("e\u0301: x", Place(1, 5, 1), "e\u0301: x", "   ^"),
        ("\x1b[31m: x", Place(1, 8, 1), "\\x1b[31m: x", "          ^"),
        ("a\u202eb: x", Place(1, 6, 1), "a\\u202eb: x", "          ^"),
        ("abc", Place(1, 2, 99), "abc", " ^^"),
    ],
)
def test_carets(line: str, place: Place, shown: str, carets: str) -> None:
    report = render([finding(place)], line, "f")
    assert report.split("\n")[1:] == ["    " + shown, "    " + carets]


def test_long_lines_are_cut_around_the_place() -> None:
    line = "x" * 5000 + "HERE" + "y" * 5000
    _, excerpt, carets = render([finding(Place(1, 5001, 4))], line, "f").split("\n")
    start = carets.index("^")
    assert excerpt[start : start + 4] == "HERE"
    assert carets.count("^") == 4
    assert excerpt.strip().startswith("...x")
    assert excerpt.endswith("y...")
    assert len(excerpt) <= WINDOW + 10


def test_line_breaks_of_yaml_are_line_breaks_of_the_report() -> None:
    report = render([finding(Place(3, 1))], "a\u2028b\x85HERE", "f")
    assert report.split("\n")[1] == "    HERE"


@given(st.text(), st.text(), st.integers(0, 50), st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_whatever_is_in_it_a_report_is_printable_lines(
    text: str, message: str, line: int, column: int, length: int
) -> None:
    report = render([finding(Place(line, column, length), message, message)], text, message)
    assert not [c for c in report if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    assert report.count("\n") <= 3
