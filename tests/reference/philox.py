"""Philox4x32-10 in plain Python, one block at a time."""

from __future__ import annotations

WORD = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def number(key: int, element: int) -> int:
    """The draw of one element of a tensor."""
    row, place = divmod(element, 2048)
    word, lane = divmod(place, 512)
    block = row * 512 + lane
    return philox((block & WORD, block >> 32, 0, 0), (key & WORD, key >> 32 & WORD))[word]
