"""Scalars keep their text until somebody says what type is wanted.

YAML 1.1 guesses types: `no` is false, `012` is ten, `12:30` is 750 and `1e-6` is a string. Here
nothing is guessed: a reader asks for a number, a boolean or a text and gets it or a refusal.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.words import Place

if TYPE_CHECKING:
    from collections.abc import Collection

START = Place(1, 1)
"""The place of a scalar that was made in code and stands in no file."""

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]+")
_OCTAL_LIKE = re.compile(r"[-+]?0[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.?(?:inf|infinity|nan)", re.IGNORECASE)
_PREFIXED = re.compile(r"[-+]?0[xob][0-9a-fA-F_]+", re.IGNORECASE)
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-9]{1,2})+(?:\.[0-9_]*)?")
_GROUPED = re.compile(r"[-+]?[0-9][0-9_,']*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
MAX_NUMBER = 400
"""Characters of a number: more than any finite float64 needs before its point; Python refuses to
convert 4,301 digits, and every text is measured before a pattern looks at it."""


class WrongValue(ValueError):
    """A value of the wrong type or range: the message says what was expected and found."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Carry the message and what to do about it."""
        super().__init__(message)
        self.hint = hint


def _expected(what: str, found: Scalar, hint: str = "") -> WrongValue:
    brief = "nothing" if found.is_null else f"'{seen(found.text)}'"
    return WrongValue(f"expected {what}, found {brief}", hint)


def _number_hint(text: str) -> str:
    """Return why a text that looks like a number to some reader of YAML is none here."""
    if _OCTAL_LIKE.fullmatch(text):
        return "drop the leading zero; some readers of YAML would take this for an octal number"
    if _PREFIXED.fullmatch(text):
        return "write it as a decimal number"
    if _SEXAGESIMAL.fullmatch(text):
        return "some readers of YAML take this for a number to base 60; write it as a decimal"
    if _GROUPED.fullmatch(text):
        return "write the digits without separators and the decimal point as '.'"
    return ""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar as written: its text, whether it stood without quotes, and where.

    `span` is the half-open range of characters in the recipe's text. Two scalars are equal when
    text and style are, wherever they stand.
    """

    text: str
    plain: bool = True
    place: Place = field(default=START, compare=False)
    span: tuple[int, int] = field(default=(0, 0), compare=False)

    @property
    def is_null(self) -> bool:
        """Whether this is YAML's null: `~`, `null` or nothing at all, without quotes."""
        return self.plain and self.text in _NULLS

    @property
    def looks_untextual(self) -> bool:
        """Whether a YAML 1.1 or 1.2 reader would see a null, a number, `true` or `false` here."""
        if not self.plain or len(self.text) > MAX_NUMBER:
            return False
        text = self.text
        patterns = (_NUMBER, _NOT_FINITE, _PREFIXED, _SEXAGESIMAL)
        return (
            self.is_null
            or text.lower() in ("true", "false")
            or any(p.fullmatch(text) for p in patterns)
            or ("_" in text and _GROUPED.fullmatch(text) is not None)
        )

    def as_text(self) -> str:
        """Return the text; raises WrongValue for a null."""
        if self.is_null:
            raise _expected("a text", self)
        return self.text

    def as_number(self) -> int | float:
        """Return a finite number, an int where it is written as one; quotes do no harm.

        Raises WrongValue for every other text, NaN, infinities and numbers past float64. `1e-6`,
        `1.`, `.5` and `+1` are numbers; `012`, `1_000`, `12:30` and `0x10` are not.
        """
        text = self.text
        if len(text) > MAX_NUMBER:
            raise _expected(f"a number of at most {MAX_NUMBER} characters", self)
        if _NOT_FINITE.fullmatch(text):
            raise _expected("a finite number", self)
        if not _NUMBER.fullmatch(text) or _OCTAL_LIKE.fullmatch(text):
            raise _expected("a number", self, _number_hint(text))
        if not math.isfinite(float(text)):
            raise _expected("a number that fits in float64 (below 1.8e308)", self)
        return int(text) if _WHOLE.fullmatch(text) else float(text)

    def as_integer(self) -> int:
        """Return a whole number; `2.0` and `1e3` are whole too. Raises WrongValue otherwise."""
        try:
            number = self.as_number()
        except WrongValue as problem:
            raise _expected("a whole number", self, problem.hint) from None
        if number != int(number):
            raise _expected("a whole number", self)
        return int(number)

    def as_boolean(self) -> bool:
        """Return true for true/yes/on/1, false for false/no/off/0, in any case.

        Raises WrongValue for every other text.
        """
        value = _BOOLEANS.get(self.text.lower()) if len(self.text) <= len("false") else None
        if value is None:
            raise _expected("true or false", self)
        return value

    def as_choice(self, options: Collection[str]) -> str:
        """Return the text if it is one of `options`; raises WrongValue with the nearest one."""
        if self.text in options and not self.is_null:
            return self.text
        problem = _expected("one of " + ", ".join(options), self)
        raise WrongValue(f"{problem}{did_you_mean(self.text, options)}")
