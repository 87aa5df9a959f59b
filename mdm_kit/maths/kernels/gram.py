"""Inner products of deltas: float64 sums over fixed blocks, the same however the work is cut.

For each block of 65,536 elements, counted from the tensor's start, and each pair of deltas, 256
float64 lanes take every 256th product and are joined left to right, as the blocks of a tensor are.
A pair's sum therefore depends on nothing but the two models and the base.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.kernels.jit import F64s, array_at, kernel
from mdm_kit.maths.kernels.lanes import widen, widen64, widened
from mdm_kit.maths.layouts import BF16
from mdm_kit.maths.layouts import GRAM_LANES as LANES
from mdm_kit.maths.layouts import GRAM_ROW as ROW

_SPLIT = 134_217_729.0
"""2^27 + 1 (Dekker 1971, "A floating-point technique for extending the available precision")."""


def gram_blocks(
    addresses: int,
    codes: int,
    k: int,
    base: int,
    known: int,
    n: int,
    wide: int,
    exact: int,
    out: int,
    scratch: int,
) -> int:
    """Write each block's inner products of the deltas of n elements; return 0.

    Those of the first `known` deltas among one another are left out.

    Inputs are given as in `fold32`: the base, then the models; where `base` is 0 all of the k are
    models, and taken as they are. Deltas are formed in float32, in
    float64 where `wide` is 1. Where `exact` is 1 sums are compensated (two words). `out` takes
    (blocks, pairs) float64, pairs in the order (0,0), (1,0), (1,1), (2,0), ... of what is not
    known; `scratch` is `gram_scratch_nbytes(k)` long.
    """
    at, dtypes = array_at(addresses, k, np.int64), array_at(codes, k, np.int64)
    n_deltas = k - base
    pairs = n_deltas * (n_deltas + 1) // 2 - known * (known + 1) // 2
    n_blocks = (n + BLOCK - 1) // BLOCK
    narrow = array_at(scratch, 2 * ROW, np.float32)
    base64 = array_at(scratch + ROW * 8, ROW, np.float64)
    deltas = array_at(scratch + 2 * ROW * 8, n_deltas * ROW, np.float64)
    sums = scratch + (2 + n_deltas) * ROW * 8
    lanes = array_at(sums, pairs * LANES, np.float64)
    rests = array_at(sums + pairs * LANES * 8, pairs * LANES, np.float64)
    products = array_at(out, n_blocks * pairs, np.float64)
    for block in range(n_blocks):
        for j in range(pairs * LANES):
            lanes[j] = 0.0
        if exact:
            for j in range(pairs * LANES):
                rests[j] = 0.0
        end = min(n, (block + 1) * BLOCK)
        for start in range(block * BLOCK, end, ROW):
            m = min(ROW, end - start)
            base32, x32, b64 = narrow[:m], narrow[ROW : ROW + m], base64[:m]
            if not base:
                for j in range(m):
                    base32[j], b64[j] = np.float32(0.0), 0.0
            elif wide:
                widen64(at[0], start, dtypes[0], base32, b64)
            else:
                widen(at[0], start, dtypes[0], base32)
            for i in range(n_deltas):
                d = deltas[i * ROW : i * ROW + m]
                if wide:
                    widen64(at[i + base], start, dtypes[i + base], x32, d)
                    for j in range(m):
                        d[j] = d[j] - b64[j]
                elif dtypes[i + base] == BF16:
                    raw = array_at(at[i + base] + start * 2, m, np.uint16)
                    for j in range(m):
                        d[j] = np.float64(np.float32(widened(raw[j]) - base32[j]))
                else:
                    widen(at[i + base], start, dtypes[i + base], x32)
                    for j in range(m):
                        d[j] = np.float64(np.float32(x32[j] - base32[j]))
            p = 0
            for i in range(known, n_deltas):
                for h in range(i + 1):
                    a, b = deltas[i * ROW : i * ROW + m], deltas[h * ROW : h * ROW + m]
                    s = lanes[p * LANES : (p + 1) * LANES]
                    if exact:
                        _add_exactly(a, b, s, rests[p * LANES : (p + 1) * LANES])
                    elif m == ROW:
                        _add_row(a, b, s)
                    else:
                        _add(a, b, s)
                    p += 1
        for p in range(pairs):
            s, r = lanes[p * LANES : (p + 1) * LANES], rests[p * LANES : (p + 1) * LANES]
            products[block * pairs + p] = _joined_exactly(s, r) if exact else _joined(s)
    return 0


@kernel
def _add_row(a: F64s, b: F64s, s: F64s) -> None:
    """Add a full row's products to the lanes: each lane is loaded and stored once for four."""
    for j in range(LANES):
        x = s[j] + a[j] * b[j]
        x = x + a[LANES + j] * b[LANES + j]
        x = x + a[2 * LANES + j] * b[2 * LANES + j]
        s[j] = x + a[3 * LANES + j] * b[3 * LANES + j]


@kernel
def _add(a: F64s, b: F64s, s: F64s) -> None:
    """Add the products of a tensor's last row, in the same order as `_add_row`."""
    for start in range(0, a.shape[0], LANES):
        m = min(LANES, a.shape[0] - start)
        c, d = a[start : start + m], b[start : start + m]
        for j in range(m):
            s[j] += c[j] * d[j]


@kernel
def _joined(s: F64s) -> float:
    total = 0.0
    for j in range(LANES):
        total += s[j]
    return total


@kernel
def _add_exactly(a: F64s, b: F64s, s: F64s, rest: F64s) -> None:
    """Add products without losing a bit: the rounding of each product and sum goes to `rest`."""
    for start in range(0, a.shape[0], LANES):
        m = min(LANES, a.shape[0] - start)
        c, d = a[start : start + m], b[start : start + m]
        for j in range(m):
            x, y = c[j], d[j]
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
            rest[j] += lost


@kernel
def _joined_exactly(s: F64s, rests: F64s) -> float:
    total, rest = 0.0, 0.0
    for j in range(LANES):
        joined = total + s[j]
        back = joined - total
        rest += (total - (joined - back)) + (s[j] - back)
        rest += rests[j]
        total = joined
    return total + rest
