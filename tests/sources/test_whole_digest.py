"""The digest of a file from its parts: right or not there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from mdm_kit.sources.whole_digest import MAX_WAITING, WholeDigest

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = bytes(range(250)) * 4
WHOLE = hashlib.sha256(DATA).hexdigest()


def digest_of(spans: Sequence[tuple[int, int]]) -> str | None:
    digest = WholeDigest(len(DATA))
    for begin, end in spans:
        digest.take(begin, memoryview(DATA)[begin:end])
    return digest.whole()


def test_in_order() -> None:
    assert digest_of([(0, 10), (10, 990), (990, 1000)]) == WHOLE


def test_nothing_is_known_before_the_last_byte() -> None:
    assert digest_of([(0, 999)]) is None
    assert digest_of([(1, 1000)]) is None


def test_parts_that_overtake_each_other() -> None:
    assert digest_of([(30, 40), (10, 30), (40, 1000), (0, 10)]) == WHOLE


def test_parts_that_come_twice_or_overlap() -> None:
    assert digest_of([(0, 50), (0, 50), (20, 70), (60, 1000), (10, 20)]) == WHOLE
    assert digest_of([(0, 10), (20, 60), (15, 30), (10, 25), (55, 1000)]) == WHOLE


def test_no_more_waits_than_may() -> None:
    late = [(begin, begin + 10) for begin in range(10, 10 * (MAX_WAITING + 2), 10)]
    rest = [(10 * (MAX_WAITING + 2), 1000)]
    assert digest_of([*late[:-1], (0, 10), late[-1], *rest]) == WHOLE
    assert digest_of([*late, (0, 10), *rest]) is None


def test_an_empty_file() -> None:
    assert WholeDigest(0).whole() == hashlib.sha256(b"").hexdigest()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=30))
def test_right_or_not_there(spans: list[tuple[int, int]]) -> None:
    assert digest_of([(min(s), max(s)) for s in spans]) in (None, WHOLE)
