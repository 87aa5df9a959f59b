"""JSON from strangers: no repeated keys, no NaN, no giant numbers, no bottomless nesting.

Python's own reader keeps the last of two equal keys, accepts NaN and lone surrogates, and reads
integers of thousands of digits. Two programs that read such a text differently can be shown two
different models, so all of it is refused here.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NoReturn

from mdm_kit.errors import IntegrityError
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_INT_DIGITS = 20
"""2**64 - 1, the largest number the safetensors format can hold, has 20 digits."""

_ODD_INTEGER = re.compile(rb"[0-9]{20}|-0")
"""What an integer that is refused must hold; without one anywhere, each need not be looked at."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(Exception):
    """Carries the reason out of the JSON reader's hooks."""


def strict_json(
    data: bytes, where: str, finish: Callable[[dict[str, object]], object] | None = None
) -> object:
    """Return the value `data` holds; raise `IntegrityError`, beginning with `where`, if it may not.

    The text must be UTF-8 and hold exactly one value; blanks around it are allowed. `finish`, if
    given, turns each object into what is kept of it as soon as it was read: a header of 50,000
    tensors reads twice as fast when its entries do not stay dicts of lists for the collector.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{where}: expected UTF-8 text, found a byte that is not at offset {error.start}; "
            "the file is damaged, get it again"
        ) from None
    unique = _unique_encodable if _SURROGATE_ESCAPE.search(data) else _unique

    def finished(pairs: list[tuple[str, object]]) -> object:
        return finish(unique(pairs)) if finish else unique(pairs)

    try:
        value: object = json.loads(
            text,
            object_pairs_hook=finished,
            parse_int=_integer if _ODD_INTEGER.search(data) else None,
            parse_float=_number,
            parse_constant=_constant,
        )
    except _Refused as reason:
        raise IntegrityError(f"{where}: {reason}; the file is damaged, get it again") from None
    except RecursionError:
        raise IntegrityError(
            f"{where}: expected a few levels of nesting, found far more; the file is hostile"
        ) from None
    except json.JSONDecodeError as error:
        raise IntegrityError(
            f"{where}: expected JSON, found something else at character {error.pos} "
            f"({error.msg}); the file is damaged, get it again"
        ) from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"expected every key once, found '{shown(key)}' more than once")
            seen.add(key)
    return found


def _unique_encodable(pairs: list[tuple[str, object]]) -> dict[str, object]:
    for key, value in pairs:
        for text in (key, value):
            if isinstance(text, str):
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError:
                    raise _Refused(
                        f"expected Unicode text, found half a surrogate pair in '{shown(text)}'"
                    ) from None
    return _unique(pairs)


def _integer(digits: str) -> int:
    if len(digits) > MAX_INT_DIGITS:
        raise _Refused(
            f"expected a number of at most {MAX_INT_DIGITS} digits, found one of {len(digits)}"
        )
    if digits == "-0":
        raise _Refused("expected a whole number, found -0")
    return int(digits)


def _number(text: str) -> float:
    value = float(text) if len(text) <= 100 else math.inf
    if not math.isfinite(value):
        raise _Refused(f"expected a finite number, found {shown(text, 40)}")
    return value


def _constant(text: str) -> NoReturn:
    raise _Refused(f"expected a finite number, found {text}")
