"""Elements kept by a chance that grows with their rank in a vector: a bit for each.

Ranks come from a radix sort of magnitudes as bit patterns, which order as the numbers do, a digit
of 8 bits (11 for long vectors) at a time, lowest first. A key is 32 bits of the pattern with the
element's index below, so float64 is sorted twice: by the lower half, then by the upper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.kernels.jit import F64s, I64s, array_at, bits_of, kernel
from mdm_kit.maths.kernels.philox import random_row
from mdm_kit.maths.kernels.scores import load_base_as64, load_delta_as64
from mdm_kit.maths.layouts import FOLD_ROW as ROW
from mdm_kit.maths.layouts import LONG_VECTOR

U64s = NDArray[np.uint64]


def draw_by_rank(
    inputs: int, start: int, outer: int, length: int, inner: int, wide: int, key: int,
    chances: int, bits: int, scratch: int,
) -> int:  # fmt: skip
    """Set the bits of kept elements of outer · inner vectors of a tile; return 0.

    `inputs` has the base's and the model's address, then their codes; the tile has the tensor's
    elements from `start` on. `chances` (2,) float64 are those of the smallest and the largest.
    `bits` has one bit for each element of the tensor, which are 0; `scratch` is
    `ranked_draws_scratch_nbytes` long.
    """
    n, slab = outer * length * inner, length * inner
    p = array_at(chances, 2, np.float64)
    kept = array_at(bits, (start + n + 7) // 8, np.uint8)
    sizes = array_at(scratch, n, np.float64)
    numbers = scratch + n * 8
    first_row = start // ROW
    u = array_at(numbers, n + 2 * ROW, np.uint32)
    taken = array_at(numbers + (n + 2 * ROW) * 4, n + 8, np.uint8)
    behind = numbers + ((n + 2 * ROW) * 4 + n + 8 + 63) // 64 * 64
    keys = array_at(behind, 2 * length, np.uint64)
    counts = array_at(behind + 16 * length, 4 * 2048, np.int64)
    _load(inputs, n, wide, behind + 16 * length, sizes)
    for row in range(first_row, (start + n - 1) // ROW + 1):
        at = (row - first_row) * ROW
        random_row(np.uint64(key), row, u[at : at + ROW])
    lowest, step = p[0] * 4294967296.0, (p[1] - p[0]) * 4294967296.0 / max(1, length - 1)
    if length == 1:
        lowest = 0.5 * (p[0] + p[1]) * 4294967296.0
    patterns = bits_of(sizes, np.uint64)
    floats = array_at(behind + 16 * length, 2, np.float32)
    words = array_at(behind + 16 * length, 2, np.uint32)
    for vector in range(outer * inner):
        at = vector // inner * slab + vector % inner
        for j in range(length):
            # Higher indices first: of equal keys the lower index then ranks higher.
            index = np.uint64(length - 1 - j)
            place = at + (length - 1 - j) * inner
            if wide:
                keys[j] = np.uint64(patterns[place] << np.uint64(32)) | index
            else:
                floats[0] = np.float32(sizes[place])
                keys[j] = np.uint64(np.uint64(words[0]) << np.uint64(32)) | index
        _sort(keys, length, counts)
        if wide:
            for j in range(length):
                index = np.uint64(keys[j] & np.uint64(0xFFFFFFFF))
                high = np.uint64(patterns[at + np.int64(index) * inner] >> np.uint64(32))
                keys[j] = np.uint64(high << np.uint64(32)) | index
            _sort(keys, length, counts)
        shift = start - first_row * ROW
        for rank in range(length):
            place = at + int(keys[rank] & np.uint64(0xFFFFFFFF)) * inner
            taken[place] = np.uint8(np.float64(u[shift + place]) < lowest + step * rank)
    for j in range(n, n + 8):
        taken[j] = np.uint8(0)
    for byte in range((n + 7) // 8):
        packed = np.uint8(0)
        for j in range(8):
            packed = np.uint8(packed | np.uint8(taken[8 * byte + j] << np.uint8(j)))
        kept[start // 8 + byte] = packed
    return 0


@kernel
def _load(inputs: int, n: int, wide: int, spare: int, d: F64s) -> None:
    """Fill `d` (n,) with magnitudes of changes; `spare` is the address of three rows of float64."""
    at = array_at(inputs, 4, np.int64)
    rows = array_at(spare, 2 * ROW, np.float64)
    narrow = array_at(spare + 2 * ROW * 8, 2 * ROW, np.float32)
    for first in range(0, n, ROW):
        m = min(ROW, n - first)
        b, x, base32 = rows[:m], rows[ROW : ROW + m], narrow[:m]
        load_base_as64(at[0], first, at[2], base32, b)
        load_delta_as64(at[1], first, at[3], wide, narrow[ROW : ROW + m], base32, b, x)
        for j in range(m):
            d[first + j] = abs(x[j])


@kernel
def _sort(keys: U64s, n: int, counts: I64s) -> None:
    """Sort the first n keys by their upper halves; there is room for as many behind them."""
    width = 11 if n >= LONG_VECTOR else 8
    digits, size = (32 + width - 1) // width, 1 << width
    mask = np.uint64(size - 1)
    for j in range(digits * size):
        counts[j] = 0
    for j in range(n):
        key = np.uint64(keys[j] >> np.uint64(32))
        for digit in range(digits):
            place = int(np.uint64(key >> np.uint64(digit * width)) & mask)
            counts[digit * size + place] += 1
    now, then = 0, n
    for digit in range(digits):
        shift = np.uint64(32 + digit * width)
        c = counts[digit * size : (digit + 1) * size]
        if c[np.int64(np.uint64(keys[now] >> shift) & mask)] == n:
            continue  # all have this digit
        at = 0
        for j in range(size):
            many = int(c[j])
            c[j] = at
            at += many
        for j in range(n):
            key = keys[now + j]
            bucket = np.int64(np.uint64(key >> shift) & mask)
            keys[then + c[bucket]] = key
            c[bucket] += 1
        now, then = then, now
    if now:
        for j in range(n):
            keys[j] = keys[n + j]
