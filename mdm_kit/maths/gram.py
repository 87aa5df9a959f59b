"""Inner products of deltas: float64 sums over fixed blocks, the same however the work is cut.

For each block of 65,536 elements, counted from the tensor's start, and each pair of deltas, 256
float64 lanes take every 256th product and are joined left to right, as the blocks of a tensor are.
A pair's sum therefore depends on nothing but the two models and the base.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.jit import U16, F32s, F64s, I64s, kernel
from mdm_kit.maths.lanes import widen, widen64

LANES = 256
"""Sums that run side by side in a block: vectors for the compiler, and shorter sums for accuracy.
Ten models have 55 pairs, whose lanes are 110 KiB."""

_SPLIT = 134_217_729.0
"""2^27 + 1 (Dekker 1971, "A floating-point technique for extending the available precision")."""


@kernel
def gram_blocks(
    raw16: U16,
    raw32: F32s,
    raw64: F64s,
    codes: I64s,
    n: int,
    wide: bool,
    exact: bool,
    out: F64s,
) -> None:
    """Fill `out` (blocks, k(k+1)/2) with each block's inner products of k deltas of n elements.

    Rows are inputs as in `fold32`: the base, then k models. Deltas are formed in float32, in
    float64 if `wide`. With `exact`, sums are compensated (two words). Pairs stand in the order
    (0,0), (1,0), (1,1), (2,0), ...
    """
    k = codes.shape[0] - 1
    pairs = out.shape[1]
    base64, x64 = np.empty(LANES), np.empty(LANES)
    base32, x32 = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    deltas = np.zeros((k, LANES))
    lanes = np.empty((pairs, LANES))
    rests = np.zeros((pairs, LANES))
    for block in range(out.shape[0]):
        lanes[:] = 0.0
        rests[:] = 0.0
        end = min(n, (block + 1) * BLOCK)
        for start in range(block * BLOCK, end, LANES):
            m = min(LANES, end - start)
            stop = start + m
            if wide:
                r16, r32, r64 = raw16[0][start:stop], raw32[0][start:stop], raw64[0][start:stop]
                widen64(r16, r32, r64, codes[0], base32[:m], base64[:m])
            else:
                r16, r32, r64 = raw16[0][start:stop], raw32[0][start:stop], raw64[0][start:stop]
                widen(r16, r32, r64, codes[0], base32[:m])
            for i in range(k):
                d = deltas[i]
                row16, row32, row64 = raw16[i + 1], raw32[i + 1], raw64[i + 1]
                r16, r32, r64 = row16[start:stop], row32[start:stop], row64[start:stop]
                if wide:
                    widen64(r16, r32, r64, codes[i + 1], x32[:m], x64[:m])
                    for j in range(m):
                        d[j] = x64[j] - base64[j]
                else:
                    widen(r16, r32, r64, codes[i + 1], x32[:m])
                    for j in range(m):
                        d[j] = np.float64(x32[j] - base32[j])
            if exact:
                _add_products_exactly(deltas, m, lanes, rests)
            else:
                _add_products(deltas, m, lanes)
        for p in range(pairs):
            total, rest = 0.0, 0.0
            for j in range(LANES):
                joined = total + lanes[p, j]
                back = joined - total
                rest += (total - (joined - back)) + (lanes[p, j] - back)
                rest += rests[p, j]
                total = joined
            out[block, p] = total + rest if exact else total


@kernel
def _add_products(deltas: F64s, m: int, lanes: F64s) -> None:
    p = 0
    for i in range(deltas.shape[0]):
        for h in range(i + 1):
            a, b, s = deltas[i], deltas[h], lanes[p]
            for j in range(m):
                s[j] += a[j] * b[j]
            p += 1


@kernel
def _add_products_exactly(deltas: F64s, m: int, lanes: F64s, rests: F64s) -> None:
    """Add products without losing a bit: the rounding of each product and sum goes to `rests`."""
    p = 0
    for i in range(deltas.shape[0]):
        for h in range(i + 1):
            a, b, s, t = deltas[i], deltas[h], lanes[p], rests[p]
            for j in range(m):
                x, y = a[j], b[j]
                product = x * y
                # Dekker's product: both factors split into halves of 26 bits.
                xs, ys = x * _SPLIT, y * _SPLIT
                xh, yh = xs - (xs - x), ys - (ys - y)
                xl, yl = x - xh, y - yh
                lost = ((xh * yh - product) + xh * yl + xl * yh) + xl * yl
                # Knuth's sum: what the addition rounds off.
                total = s[j] + product
                back = total - s[j]
                lost += (s[j] - (total - back)) + (product - back)
                s[j] = total
                t[j] += lost
            p += 1
