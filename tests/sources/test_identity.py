"""Fingerprints: the windows cover short files whole and long ones from end to end."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from mdm_kit.sources import CheckpointFile, MemorySource
from mdm_kit.sources.identity import WINDOW_BYTES, WINDOWS, digest_of, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = 80


@pytest.mark.parametrize(
    "room", [0, 1, WINDOW_BYTES, WINDOWS * WINDOW_BYTES, WINDOWS * WINDOW_BYTES + 1, 10**9]
)
def test_windows_lie_within_the_data(room: int) -> None:
    reads: list[tuple[int, int]] = []
    file = CheckpointFile("f", HEADER + room, HEADER, "h", None, in_cache=True)
    fingerprint([file], lambda _, view, offset: reads.append((offset, offset + len(view))))
    assert reads[0][0] == HEADER
    assert reads[-1][1] == HEADER + room
    assert all(HEADER <= begin <= end <= HEADER + room for begin, end in reads)
    assert sum(end - begin for begin, end in reads) == min(room, WINDOWS * WINDOW_BYTES)
    gaps = {b[0] - a[0] for a, b in itertools.pairwise(reads)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def models() -> Iterator[MemorySource]:
    yield MemorySource("m", {"w": ("U8", (4,), b"1234")})
    yield MemorySource("m", {"w": ("U8", (4,), b"1235")})
    yield MemorySource("m", {"w": ("U8", (2, 2), b"1234")})
    yield MemorySource("m", {"w": ("I8", (4,), b"1234")})
    yield MemorySource("m", {"v": ("U8", (4,), b"1234")})
    yield MemorySource("m", {"w": ("U8", (5,), b"12341")})


def test_different_models_differ() -> None:
    assert len({model.fingerprint() for model in models()}) == 6


def test_name_of_the_source_is_not_part_of_it() -> None:
    tensors = {"w": ("U8", (4,), b"1234")}
    assert MemorySource("a", tensors).fingerprint() == MemorySource("b", tensors).fingerprint()


def test_known_digest() -> None:
    """A stored fingerprint stays comparable: this value may not change."""
    assert MemorySource("m", {"w": ("U8", (4,), b"1234")}).fingerprint() == (
        "sha256:8d2b0c549a6df1abf616a11f65114be886b3dc9ada51d45c4ac286b6ecc36af7"
    )


def test_key_order_does_not_matter() -> None:
    assert digest_of({"a": 1, "b": "é"}) == digest_of({"b": "é", "a": 1})
