"""Scalars: raw text until a type is wanted, then that type or a refusal that says why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.recipe import Scalar, WrongValue
from mdm_kit.recipe.scalars import MAX_NUMBER


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1.", 1.0),
        (".5", 0.5),
        ("+1", 1),
        ("-3", -3),
        ("0", 0),
        ("-0.0", -0.0),
        ("1E+2", 100.0),
        ("012.5", 12.5),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_numbers(text: str, value: float, plain: bool) -> None:
    number = Scalar(text, plain).as_number()
    assert number == value
    assert type(number) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "012",
        "-012",
        "00",
        "1_000",
        "12:30",
        "0x10",
        "0b1",
        "0o7",
        "abc",
        "",
        "~",
        "true",
        "1,5",
        " 1",
        "1 ",
        "1\n",
        "--1",
        "1e",
        ".",
        "e5",
        "١",  # an Arabic digit, which float() would take
    ],
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(WrongValue, match=r"^expected a number, found "):
        Scalar(text).as_number()


@pytest.mark.parametrize("text", ["nan", ".nan", "NaN", "inf", "-.inf", "+Infinity", ".INF"])
def test_numbers_that_are_not_finite_have_their_own_words(text: str) -> None:
    with pytest.raises(WrongValue, match="expected a finite number"):
        Scalar(text).as_number()


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 310])
def test_numbers_past_float64(text: str) -> None:
    with pytest.raises(WrongValue, match="fits in float64"):
        Scalar(text).as_number()


def test_numbers_are_measured_before_they_are_read() -> None:
    with pytest.raises(WrongValue, match=f"at most {MAX_NUMBER} characters"):
        Scalar("9" * 500_000 + "x").as_number()


@pytest.mark.parametrize(
    ("text", "hint"),
    [("012", "octal"), ("0x1f", "decimal"), ("12:30", "base 60"), ("1_000", "separators")],
)
def test_hints_name_the_trap(text: str, hint: str) -> None:
    with pytest.raises(WrongValue) as caught:
        Scalar(text).as_number()
    assert hint in caught.value.hint


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_every_float_reads_back(value: float) -> None:
    read = Scalar(repr(value)).as_number()
    assert read == value
    assert math.copysign(1, read) == math.copysign(1, value)


@given(st.integers(-(10**300), 10**300))
@settings(deadline=None)
def test_every_integer_reads_back_exactly(value: int) -> None:
    assert Scalar(str(value)).as_number() == value
    assert Scalar(str(value)).as_integer() == value


@given(st.text())
@settings(deadline=None)
def test_readers_return_or_refuse(text: str) -> None:
    for plain in (True, False):
        scalar = Scalar(text, plain)
        for read in (scalar.as_text, scalar.as_number, scalar.as_integer, scalar.as_boolean):
            try:
                read()
            except WrongValue as problem:
                assert str(problem).startswith("expected ")  # noqa: PT017 -- or it returns


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("2.0", 2), ("1e3", 1000), ("-1", -1)])
def test_integers(text: str, value: int) -> None:
    read = Scalar(text).as_integer()
    assert read == value
    assert type(read) is int


@pytest.mark.parametrize("text", ["2.5", "x", "012", "nan", "true", "1e-1"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(WrongValue, match=r"expected a whole number, found "):
        Scalar(text).as_integer()


@pytest.mark.parametrize("text", ["true", "True", "YES", "on", "1"])
def test_true(text: str) -> None:
    assert Scalar(text).as_boolean() is True


@pytest.mark.parametrize("text", ["false", "No", "OFF", "0"])
def test_false(text: str) -> None:
    assert Scalar(text, plain=False).as_boolean() is False


@pytest.mark.parametrize("text", ["", "y", "n", "2", "truely", "nope", "null"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(WrongValue, match="expected true or false"):
        Scalar(text).as_boolean()


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null_only_without_quotes(text: str) -> None:
    assert Scalar(text).is_null
    assert not Scalar(text, plain=False).is_null
    assert Scalar(text, plain=False).as_text() == text
    with pytest.raises(WrongValue, match="found nothing"):
        Scalar(text).as_text()


@pytest.mark.parametrize("text", ["no", "on", "012", "12:30", "2001-01-01", "1e-6", "nULL"])
def test_text_is_text(text: str) -> None:
    assert Scalar(text).as_text() == text


def test_choice() -> None:
    assert Scalar("tensor").as_choice(("tensor", "layer")) == "tensor"
    with pytest.raises(WrongValue, match="found 'tensr'; did you mean 'tensor'"):
        Scalar("tensr").as_choice(("tensor", "layer"))
    with pytest.raises(WrongValue, match="expected one of null, x, found nothing"):
        Scalar("null").as_choice(("null", "x"))


def test_messages_hold_no_control_characters_and_stay_short() -> None:
    with pytest.raises(WrongValue) as caught:
        Scalar("\x1b[31m" + "x" * 100_000).as_boolean()
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 120


def test_equality_is_about_text_and_style() -> None:
    assert Scalar("1", span=(3, 4)) == Scalar("1")
    assert Scalar("1") != Scalar("1", plain=False)
