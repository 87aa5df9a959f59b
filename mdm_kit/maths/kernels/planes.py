"""Byte planes of differences: the bits of one model against another's, so that they compress.

A float's bits, read as a sign and a magnitude, become a signed integer that grows as the number
does. The difference of two such integers counts the representable numbers between two weights,
wraps around where it must, and is folded to 0, -1, 1, -2, ... = 0, 1, 2, 3, ... (zigzag), so that
a small step of training is a small code whichever its sign. Every step can be undone for every
pattern of bits, NaNs and both zeros among them. Byte i of all codes makes plane i.

With a base the codes stand sorted by the base's 8 bits below the sign, its exponent for the most
part, and in their order where these are equal (counting sort). A step of training has about one
size for all weights, so it is few representable numbers for a large weight and many for a small
one: sorted, codes of one size lie together, and each part of a plane gets the code that suits it.
Who knows the base knows where each code came from.

Without a base the codes count from +0, in their own order: the magnitude, the sign as lowest bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.kernels.jit import I64s, array_at, kernel

I16s = NDArray[np.int16]
I32s = NDArray[np.int32]

_COUNTS_NBYTES = 4 * 256 * 8
"""Scratch before the codes: for each quarter and key, a place."""


@kernel
def _ordered16(bits: np.int16) -> np.int16:
    """Return the rank of a 16-bit float's bits, or of a rank the bits: it is its own inverse."""
    return np.int16(bits ^ np.int16(np.int16(bits >> np.int16(15)) & np.int16(0x7FFF)))


@kernel
def _ordered32(bits: np.int32) -> np.int32:
    """Do for a 32-bit float what `_ordered16` does."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@kernel
def _zigzag16(d: np.int16) -> np.int16:
    return np.int16(np.int16(d << np.int16(1)) ^ np.int16(d >> np.int16(15)))


@kernel
def _zigzag32(d: np.int32) -> np.int32:
    return np.int32(np.int32(d << np.int32(1)) ^ np.int32(d >> np.int32(31)))


@kernel
def _unzigzag16(code: np.int16) -> np.int16:
    half = np.int16(np.int16(code >> np.int16(1)) & np.int16(0x7FFF))
    return np.int16(half ^ np.int16(-np.int16(code & np.int16(1))))


@kernel
def _unzigzag32(code: np.int32) -> np.int32:
    half = np.int32(np.int32(code >> np.int32(1)) & np.int32(0x7FFFFFFF))
    return np.int32(half ^ np.int32(-np.int32(code & np.int32(1))))


@kernel
def _key16(bits: np.int16) -> np.uint64:
    return np.uint64(np.int16(bits >> np.int16(7)) & np.int16(0xFF))


@kernel
def _key32(bits: np.int32) -> np.uint64:
    return np.uint64(np.int32(bits >> np.int32(23)) & np.int32(0xFF))


@kernel
def _starts(counts: I64s) -> None:
    """Turn how many codes each key has in each quarter into where its first one goes."""
    at = 0
    for key in range(256):
        for quarter in range(4):
            n = counts[quarter * 256 + key]
            counts[quarter * 256 + key] = at
            at += n


@kernel
def _places16(base: I16s, counts: I64s) -> None:
    """Fill `counts` (1024,) with where each key's first code goes, for each quarter of `base`.

    Four quarters are counted side by side, because the next count of a key waits for the one
    before it.
    """
    n = base.shape[0]
    q = n // 4
    c0, c1, c2, c3 = counts[:256], counts[256:512], counts[512:768], counts[768:1024]
    for i in range(1024):
        counts[i] = 0
    for j in range(q):
        c0[_key16(base[j])] += 1
        c1[_key16(base[q + j])] += 1
        c2[_key16(base[2 * q + j])] += 1
        c3[_key16(base[3 * q + j])] += 1
    for j in range(4 * q, n):
        c3[_key16(base[j])] += 1
    _starts(counts)


@kernel
def _put16(x: np.int16, b: np.int16, place: I64s, codes: I16s) -> None:
    """Write a number's code where the next one of its base's key goes."""
    key = _key16(b)
    at = place[key]
    place[key] = at + 1
    codes[np.uint64(at)] = _zigzag16(np.int16(_ordered16(x) - _ordered16(b)))


@kernel
def _got16(b: np.int16, place: I64s, codes: I16s) -> np.int16:
    """Return the number whose code is the next one of its base's key."""
    key = _key16(b)
    at = place[key]
    place[key] = at + 1
    d = _unzigzag16(codes[np.uint64(at)])
    return np.int16(_ordered16(np.int16(_ordered16(b) + d)))


@kernel
def _places32(base: I32s, counts: I64s) -> None:
    """Do for 32-bit floats what `_places16` does."""
    n = base.shape[0]
    q = n // 4
    c0, c1, c2, c3 = counts[:256], counts[256:512], counts[512:768], counts[768:1024]
    for i in range(1024):
        counts[i] = 0
    for j in range(q):
        c0[_key32(base[j])] += 1
        c1[_key32(base[q + j])] += 1
        c2[_key32(base[2 * q + j])] += 1
        c3[_key32(base[3 * q + j])] += 1
    for j in range(4 * q, n):
        c3[_key32(base[j])] += 1
    _starts(counts)


@kernel
def _put32(x: np.int32, b: np.int32, place: I64s, codes: I32s) -> None:
    """Write a number's code where the next one of its base's key goes."""
    key = _key32(b)
    at = place[key]
    place[key] = at + 1
    codes[np.uint64(at)] = _zigzag32(np.int32(_ordered32(x) - _ordered32(b)))


@kernel
def _got32(b: np.int32, place: I64s, codes: I32s) -> np.int32:
    """Return the number whose code is the next one of its base's key."""
    key = _key32(b)
    at = place[key]
    place[key] = at + 1
    d = _unzigzag32(codes[np.uint64(at)])
    return np.int32(_ordered32(np.int32(_ordered32(b) + d)))


def split16(x: int, base: int, n: int, out: int, scratch: int) -> int:
    """Write the 2 planes of n 16-bit floats at `x`, one behind the other, to `out`; return 0.

    `base` is the address of the n floats they are coded against, or 0; `scratch` is
    `planes.scratch_nbytes(n, 2)` long.
    """
    numbers, codes = array_at(x, n, np.int16), array_at(scratch + _COUNTS_NBYTES, n, np.int16)
    if base == 0:
        for j in range(n):
            codes[j] = _zigzag16(_ordered16(numbers[j]))
    else:
        b, places = array_at(base, n, np.int16), array_at(scratch, 1024, np.int64)
        _places16(b, places)
        s0, s1, s2, s3 = places[:256], places[256:512], places[512:768], places[768:1024]
        q = n // 4
        for j in range(q):
            _put16(numbers[j], b[j], s0, codes)
            _put16(numbers[q + j], b[q + j], s1, codes)
            _put16(numbers[2 * q + j], b[2 * q + j], s2, codes)
            _put16(numbers[3 * q + j], b[3 * q + j], s3, codes)
        for j in range(4 * q, n):
            _put16(numbers[j], b[j], s3, codes)
    low, high = array_at(out, n, np.uint8), array_at(out + n, n, np.uint8)
    for j in range(n):
        low[j] = np.uint8(codes[j])
        high[j] = np.uint8(np.int16(codes[j] >> np.int16(8)))
    return 0


def split32(x: int, base: int, n: int, out: int, scratch: int) -> int:
    """Write the 4 planes of n 32-bit floats; see `split16`."""
    numbers, codes = array_at(x, n, np.int32), array_at(scratch + _COUNTS_NBYTES, n, np.int32)
    if base == 0:
        for j in range(n):
            codes[j] = _zigzag32(_ordered32(numbers[j]))
    else:
        b, places = array_at(base, n, np.int32), array_at(scratch, 1024, np.int64)
        _places32(b, places)
        s0, s1, s2, s3 = places[:256], places[256:512], places[512:768], places[768:1024]
        q = n // 4
        for j in range(q):
            _put32(numbers[j], b[j], s0, codes)
            _put32(numbers[q + j], b[q + j], s1, codes)
            _put32(numbers[2 * q + j], b[2 * q + j], s2, codes)
            _put32(numbers[3 * q + j], b[3 * q + j], s3, codes)
        for j in range(4 * q, n):
            _put32(numbers[j], b[j], s3, codes)
    p0, p1 = array_at(out, n, np.uint8), array_at(out + n, n, np.uint8)
    p2, p3 = array_at(out + 2 * n, n, np.uint8), array_at(out + 3 * n, n, np.uint8)
    for j in range(n):
        p0[j] = np.uint8(codes[j])
        p1[j] = np.uint8(np.int32(codes[j] >> np.int32(8)))
        p2[j] = np.uint8(np.int32(codes[j] >> np.int32(16)))
        p3[j] = np.uint8(np.int32(codes[j] >> np.int32(24)))
    return 0


def join16(planes: int, base: int, n: int, out: int, scratch: int) -> int:
    """Write the n 16-bit floats whose 2 planes lie at the addresses in `planes` (2,) int64.

    `base` and `scratch` are as in `split16`; `out` takes the floats' bits. Returns 0.
    """
    at = array_at(planes, 2, np.int64)
    low, high = array_at(at[0], n, np.uint8), array_at(at[1], n, np.uint8)
    numbers, codes = array_at(out, n, np.int16), array_at(scratch + _COUNTS_NBYTES, n, np.int16)
    for j in range(n):
        upper = np.int16(np.int16(high[j]) << np.int16(8))
        codes[j] = np.int16(upper | np.int16(low[j]))
    if base == 0:
        for j in range(n):
            numbers[j] = _ordered16(_unzigzag16(codes[j]))
        return 0
    b, places = array_at(base, n, np.int16), array_at(scratch, 1024, np.int64)
    _places16(b, places)
    s0, s1, s2, s3 = places[:256], places[256:512], places[512:768], places[768:1024]
    q = n // 4
    for j in range(q):
        numbers[j] = _got16(b[j], s0, codes)
        numbers[q + j] = _got16(b[q + j], s1, codes)
        numbers[2 * q + j] = _got16(b[2 * q + j], s2, codes)
        numbers[3 * q + j] = _got16(b[3 * q + j], s3, codes)
    for j in range(4 * q, n):
        numbers[j] = _got16(b[j], s3, codes)
    return 0


def join32(planes: int, base: int, n: int, out: int, scratch: int) -> int:
    """Write the n 32-bit floats whose 4 planes lie at the addresses in `planes`; see `join16`."""
    at = array_at(planes, 4, np.int64)
    p0, p1 = array_at(at[0], n, np.uint8), array_at(at[1], n, np.uint8)
    p2, p3 = array_at(at[2], n, np.uint8), array_at(at[3], n, np.uint8)
    numbers, codes = array_at(out, n, np.int32), array_at(scratch + _COUNTS_NBYTES, n, np.int32)
    for j in range(n):
        lower = np.int32(np.int32(p0[j]) | np.int32(np.int32(p1[j]) << np.int32(8)))
        upper = np.int32(np.int32(p2[j]) | np.int32(np.int32(p3[j]) << np.int32(8)))
        codes[j] = np.int32(lower | np.int32(upper << np.int32(16)))
    if base == 0:
        for j in range(n):
            numbers[j] = _ordered32(_unzigzag32(codes[j]))
        return 0
    b, places = array_at(base, n, np.int32), array_at(scratch, 1024, np.int64)
    _places32(b, places)
    s0, s1, s2, s3 = places[:256], places[256:512], places[512:768], places[768:1024]
    q = n // 4
    for j in range(q):
        numbers[j] = _got32(b[j], s0, codes)
        numbers[q + j] = _got32(b[q + j], s1, codes)
        numbers[2 * q + j] = _got32(b[2 * q + j], s2, codes)
        numbers[3 * q + j] = _got32(b[3 * q + j], s3, codes)
    for j in range(4 * q, n):
        numbers[j] = _got32(b[j], s3, codes)
    return 0
