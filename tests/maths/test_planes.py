"""Byte planes: every pattern of bits comes back, whatever the base's are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.maths.planes import Bytes, join, split

BLOCK = 1 << 18
LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 63, 1001)
KINDS = [(2, True), (4, True), (1, False), (2, False), (4, False), (8, False)]
"""Widths of numbers, and whether they are coded by rank."""


def planes_of(x: Bytes, base: Bytes | None, width: int, *, ranked: bool) -> list[Bytes]:
    out = np.empty(len(x), np.uint8)
    split(x, base, width, out, ranked=ranked)
    n = len(x) // width
    return [out[i * n : (i + 1) * n] for i in range(width)]


def returns(x: Bytes, base: Bytes | None, width: int, *, ranked: bool) -> bool:
    found = np.full(len(x), 0xA5, np.uint8)
    join(planes_of(x, base, width, ranked=ranked), base, found, ranked=ranked)
    return bool(np.array_equal(found, x))


def bits(n: int, seed: int) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)


@pytest.mark.parametrize(("width", "ranked"), KINDS)
@settings(deadline=None, max_examples=60)
@given(n=st.sampled_from(LENGTHS), seed=st.integers(0, 2**32), alone=st.booleans())
def test_random_bits_come_back(width: int, ranked: bool, n: int, seed: int, alone: bool) -> None:
    base = None if alone else bits(n * width, seed + 1)
    assert returns(bits(n * width, seed), base, width, ranked=ranked)


@pytest.mark.parametrize(("width", "ranked"), KINDS)
@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, BLOCK + 1])
def test_lengths_about_a_block(width: int, ranked: bool, n: int) -> None:
    x, base = bits(n * width, 1), bits(n * width, 2)
    assert returns(x, base, width, ranked=ranked)
    assert returns(x, None, width, ranked=ranked)


@pytest.mark.parametrize("base", [0x0000, 0x8000, 0x3F80, 0xBF80, 0x7F80, 0xFF81, 0x7FFF, 0xFFFF])
def test_every_16_bit_pattern_has_a_code_of_its_own(base: int) -> None:
    """Zeros, ones, an infinity and NaNs as bases; the codes are a permutation of all."""
    x = np.arange(65536, dtype=np.uint16)
    against = np.full(65536, base, np.uint16).view(np.uint8)
    low, high = planes_of(x.view(np.uint8), against, 2, ranked=True)
    codes = low.astype(np.uint16) | (high.astype(np.uint16) << 8)
    assert np.array_equal(np.sort(codes), x)
    assert returns(x.view(np.uint8), against, 2, ranked=True)


@pytest.mark.parametrize(
    ("width", "special"),
    [
        (2, [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC1, 0xFFFF, 0x0001, 0x8001, 0x7BFF, 0x3F80]),
        (4, [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 1, 0x3F800000]),
    ],
)
def test_special_numbers_against_each_other(width: int, special: list[int]) -> None:
    pairs = np.array([(a, b) for a in special for b in special], f"<u{width}")
    x, base = (np.ascontiguousarray(pairs[:, i]).view(np.uint8) for i in (0, 1))
    assert returns(x, base, width, ranked=True)


def test_neighbours_have_small_codes_on_both_sides_of_zero() -> None:
    """The smallest negative number, -0, +0 and the smallest positive one follow each other."""
    x = np.array([0x8001, 0x8000, 0x0000, 0x0001], np.uint16)
    base = np.zeros(4, np.uint16)
    low, high = planes_of(x.view(np.uint8), base.view(np.uint8), 2, ranked=True)
    assert low.tolist() == [3, 1, 0, 2]
    assert not high.any()


def test_codes_stand_in_the_order_of_the_bases_exponents() -> None:
    base = np.array([4.0, 1.0, -4.0, 0.5, 1.5], np.float32)
    x = (base.view(np.uint32) + np.arange(5, dtype=np.uint32)).view(np.float32)
    low, *_ = planes_of(x.view(np.uint8), base.view(np.uint8), 4, ranked=True)
    # 0.5 moved by 3, 1.0 by 1, 1.5 by 4, 4.0 by 0, -4.0 by -2
    assert low.tolist() == [6, 2, 8, 0, 3]


def test_alone_the_codes_are_magnitude_and_sign() -> None:
    x = np.arange(65536, dtype=np.uint16)
    low, high = planes_of(x.view(np.uint8), None, 2, ranked=True)
    codes = low.astype(np.uint16) | (high.astype(np.uint16) << 8)
    assert np.array_equal(codes, (x << 1) | (x >> 15))


def test_any_planes_give_numbers() -> None:
    """Damaged planes must not lead the kernel out of its arrays."""
    for width in (2, 4):
        base, out = bits(1001 * width, 3), np.empty(1001 * width, np.uint8)
        join([bits(1001, i) for i in range(width)], base, out, ranked=True)
