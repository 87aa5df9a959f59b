"""The draws are Philox4x32-10, and an element's does not depend on where its row begins."""

from __future__ import annotations

import numpy as np
import pytest
from reference.philox import number, philox

from mdm_kit.maths.native import native

KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
"""Known answers, from the authors' Random123."""


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_reference_gives_the_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    assert philox(counter, key) == answer


@pytest.mark.parametrize("key", [0, 1, 0x123456789ABCDEF0, 2**64 - 1])
@pytest.mark.parametrize("row", [0, 1, 4_000_000_000])
def test_the_kernel_gives_the_reference_s_numbers(key: int, row: int) -> None:
    out = np.empty(2 * 2048, np.uint32)
    signed = key - 2**64 if key >= 2**63 else key
    native("philox", "random_numbers", 4)(signed, row, 2, out.ctypes.data)
    for place in (0, 1, 511, 512, 1024, 2047, 2048, 4095):
        assert out[place] == number(key, row * 2048 + place)
