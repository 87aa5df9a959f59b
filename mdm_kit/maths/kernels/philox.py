"""Random numbers by counter: Philox4x32-10, a row of 2,048 at a time.

Element e of a tensor has word (e mod 2048) // 512 of the block whose counter is
512·(e // 2048) + e mod 512, so that neighbours lie in vectors side by side and any row can be made
without those before it (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as
1, 2, 3").
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import U32s, array_at, kernel
from mdm_kit.maths.layouts import FOLD_ROW as ROW

_QUARTER = ROW // 4
_LOW = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_32 = np.uint64(32)


@kernel
def random_row(key: np.uint64, row: int, u: U32s) -> None:
    """Fill `u` (2048,) with the numbers of the elements from 2048·row on."""
    first = np.uint64(row) * np.uint64(_QUARTER)
    for j in range(_QUARTER):
        counter = np.uint64(first + np.uint64(j))
        c0, c1 = np.uint64(counter & _LOW), np.uint64(counter >> _32)
        c2, c3 = np.uint64(0), np.uint64(0)
        k0, k1 = np.uint64(key & _LOW), np.uint64(key >> _32)
        for _ in range(10):
            p0, p1 = np.uint64(c0 * _M0), np.uint64(c2 * _M1)
            c0 = np.uint64(np.uint64(np.uint64(p1 >> _32) ^ c1) ^ k0)
            c2 = np.uint64(np.uint64(np.uint64(p0 >> _32) ^ c3) ^ k1)
            c1, c3 = np.uint64(p1 & _LOW), np.uint64(p0 & _LOW)
            k0, k1 = np.uint64(np.uint64(k0 + _W0) & _LOW), np.uint64(np.uint64(k1 + _W1) & _LOW)
        u[j] = np.uint32(c0)
        u[_QUARTER + j] = np.uint32(c1)
        u[2 * _QUARTER + j] = np.uint32(c2)
        u[3 * _QUARTER + j] = np.uint32(c3)


def random_numbers(key: int, row: int, n: int, out: int) -> int:
    """Write n rows of numbers (uint32) from `row` on at the address `out`; return 0."""
    numbers = array_at(out, n * ROW, np.uint32)
    for i in range(n):
        random_row(np.uint64(key), row + i, numbers[i * ROW : (i + 1) * ROW])
    return 0
