"""What an answer to a ranged request is worth: the bytes asked for, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdm_kit.sources.hub_range import WHOLE_NBYTES, WrongAnswer, range_header, receive

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = bytes(range(256)) * 8
SIZE = len(DATA)


class Answer:
    """An answer whose body comes in chunks of a few bytes."""

    def __init__(self, status: int, body: bytes, step: int = 100, **headers: str) -> None:
        self.status_code, self.body, self.step = status, body, step
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.read = 0

    def iter_raw(self) -> Iterator[bytes]:
        for at in range(0, len(self.body), self.step):
            self.read = min(len(self.body), at + self.step)
            yield self.body[at : at + self.step]


def taken(answer: Answer, begin: int, end: int, size: int = SIZE) -> tuple[bytes, list[int]]:
    into, told = bytearray(end - begin), []
    receive(answer, memoryview(into), begin, size, source="m", file="f", got=told.append)
    return bytes(into), told


def part(begin: int, end: int, body: bytes | None = None, step: int = 100) -> Answer:
    body = DATA[begin:end] if body is None else body
    return Answer(206, body, step, Content_Range=f"bytes {begin}-{end - 1}/{SIZE}")


def test_asked_for_as_it_is() -> None:
    assert range_header(5, 10) == {"Range": "bytes=5-9", "Accept-Encoding": "identity"}


@given(begin=st.integers(0, SIZE - 1), n=st.integers(1, SIZE), step=st.integers(1, SIZE))
def test_a_part(begin: int, n: int, step: int) -> None:
    end = min(SIZE, begin + n)
    answer = part(begin, end, step=step)
    data, told = taken(answer, begin, end)
    assert data == DATA[begin:end]
    assert told == sorted(told)
    assert told[-1] == end - begin
    assert answer.read == end - begin, "read to its end, so that the connection lives"


@given(begin=st.integers(0, SIZE - 1), n=st.integers(1, SIZE), step=st.integers(1, SIZE))
def test_cut_out_of_the_whole(begin: int, n: int, step: int) -> None:
    end = min(SIZE, begin + n)
    answer = Answer(200, DATA, step)
    assert taken(answer, begin, end)[0] == DATA[begin:end]
    assert answer.read <= end + step, "what comes after is left"


def test_a_whole_file_is_not_read_for_bytes_far_behind_its_start() -> None:
    with pytest.raises(WrongAnswer, match="--download"):
        taken(Answer(200, DATA), WHOLE_NBYTES, WHOLE_NBYTES + 1, 2 * WHOLE_NBYTES)


@pytest.mark.parametrize(
    "answer",
    [
        part(0, 11),
        part(1, 10),
        part(0, 10, body=DATA[:11]),
        part(0, 10, body=DATA[:9]),
        Answer(206, DATA[:10]),
        Answer(206, DATA[:10], Content_Range=f"bytes 0-9/{SIZE + 1}"),
        Answer(206, DATA[:10], Content_Range="bytes 0-9/*"),
        Answer(206, DATA[:10], Content_Range=f"bytes 0-9/{SIZE}", Content_Encoding="gzip"),
        Answer(200, DATA, Content_Encoding="br"),
        Answer(200, DATA[:5]),
        Answer(204, b""),
    ],
)
def test_anything_else_is_wrong(answer: Answer) -> None:
    with pytest.raises(WrongAnswer, match="'m', file 'f': expected .* from the Hub, found"):
        taken(answer, 0, 10)


def test_what_came_before_a_cut_is_told() -> None:
    told: list[int] = []
    into = memoryview(bytearray(1000))
    with pytest.raises(WrongAnswer):
        receive(
            part(0, 1000, body=DATA[:250]), into, 0, SIZE, source="m", file="f", got=told.append
        )
    assert told == [100, 200, 250]
    assert bytes(into[:250]) == DATA[:250]
