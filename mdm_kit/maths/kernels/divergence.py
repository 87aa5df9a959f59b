"""How far the softmax of one vector is from another's, in float64, without leaving the caches.

Exponentials and logarithms are written out, because the library's take one number at a time.
"""

from __future__ import annotations

import numpy as np

from mdm_kit.maths.kernels.jit import F32s, F64s, array_at, bits_of, kernel
from mdm_kit.maths.kernels.lanes import widen64
from mdm_kit.maths.layouts import FOLD_ROW as ROW

_LANES = 64
_SMOOTHING = 1e-8
_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two words, the first with 33 bits (Cody and Waite 1980)."""
_LN2 = 0.6931471805599453
_SQRT2 = 1.4142135623730951
_NEAR = 0.1715
"""Below it lies (x - y) / (x + y) where x / y is between 1/√2 and √2."""
_MAGIC = 6755399441055744.0
"""1.5 · 2^52: added to a number it leaves the nearest whole one in the low bits."""
_2_TO_52 = 4503599627370496.0
_LOWEST = -700.0
"""e to this is still a normal number; what is smaller adds nothing to a sum that has 1 in it."""


def divergences(inputs: int, n_vectors: int, length: int, out: int, scratch: int) -> int:
    """Write Σ p log(p/q) of each vector at `out` (n_vectors,) float64; return 0.

    q and p are softmax + 1e-8 of the base's and the model's vector of `length` numbers; `inputs`
    has the base's and the model's address, then their codes. Not finite where an input is not.
    `scratch` is `layouts.divergence_scratch_nbytes(length)` long.
    """
    at = array_at(inputs, 4, np.int64)
    narrow = array_at(scratch, ROW, np.float32)
    spare = array_at(scratch + ROW * 4, ROW, np.float64)
    lanes = array_at(scratch + ROW * 12, _LANES, np.float64)
    powers = array_at(scratch + ROW * 12 + _LANES * 8, 2 * length, np.float64)
    sums = array_at(scratch + ROW * 12 + _LANES * 8 + 16 * length, 2, np.float64)
    found = array_at(out, n_vectors, np.float64)
    for vector in range(n_vectors):
        for i in range(2):
            x = powers[i * length : (i + 1) * length]
            peak = _load(at[i], vector * length, at[2 + i], narrow, lanes, x)
            for j in range(_LANES):
                lanes[j] = 0.0
            for first in range(0, length, ROW):
                m = min(ROW, length - first)
                _exp(x[first : first + m], peak, spare[:m])
                _add(x[first : first + m], lanes)
            sums[i] = 0.0
            for j in range(_LANES):
                sums[i] += lanes[j]
        for j in range(_LANES):
            lanes[j] = 0.0
        q, p = powers[:length], powers[length : 2 * length]
        by_q, by_p = 1.0 / sums[0], 1.0 / sums[1]
        for first in range(0, length, ROW):
            m = min(ROW, length - first)
            _terms(q[first : first + m], p[first : first + m], by_q, by_p, spare[:m])
            _add(spare[:m], lanes)
        total = 0.0
        for j in range(_LANES):
            total += lanes[j]
        found[vector] = total if total > 0.0 or not (total <= 0.0) else 0.0
    return 0


@kernel
def _load(address: int, start: int, code: int, narrow: F32s, lanes: F64s, x: F64s) -> float:
    """Fill `x` (length,) with a vector's numbers and return the largest."""
    for j in range(_LANES):
        lanes[j] = -np.inf
    for first in range(0, x.shape[0], ROW):
        m = min(ROW, x.shape[0] - first)
        row = x[first : first + m]
        widen64(address, start + first, code, narrow[:m], row)
        for group in range(0, m, _LANES):
            part = row[group : group + _LANES]
            for j in range(part.shape[0]):
                lanes[j] = max(lanes[j], part[j])
    peak = -np.inf
    for j in range(_LANES):
        peak = max(peak, float(lanes[j]))
    return peak


@kernel
def _add(x: F64s, lanes: F64s) -> None:
    for group in range(0, x.shape[0], _LANES):
        part = x[group : group + _LANES]
        for j in range(part.shape[0]):
            lanes[j] += part[j]


@kernel
def _exp(x: F64s, peak: float, spare: F64s) -> None:
    """Replace `x` (m,) by e^(x - peak), to fourteen digits."""
    m = x.shape[0]
    bits = bits_of(spare, np.int64)
    for j in range(m):
        y = x[j] - peak
        y = y if not (y < _LOWEST) else _LOWEST
        turned = y * _LOG2E + _MAGIC
        spare[j] = turned
        whole = turned - _MAGIC
        r = (y - whole * _LN2_HIGH) - whole * _LN2_LOW
        # Taylor's series to the 11th power, 6e-15 at its worst: |r| <= ln(2) / 2.
        p = 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        x[j] = p * r + 1.0
    for j in range(m):
        # The exponent, which the magic number left in the low bits, moved to its place.
        bits[j] = (bits[j] << np.int64(52)) + np.int64(0x3FF0000000000000)
    for j in range(m):
        x[j] = x[j] * spare[j]


@kernel
def _terms(q: F64s, p: F64s, by_q: float, by_p: float, z: F64s) -> None:
    """Fill `z` (m,) with p log(p/q), p and q scaled and smoothed first."""
    m = z.shape[0]
    far = np.int64(0)
    for j in range(m):
        x, y = p[j] * by_p + _SMOOTHING, q[j] * by_q + _SMOOTHING
        s = (x - y) / (x + y)
        p[j], q[j], z[j] = x, y, s
        far += np.int64(not (abs(s) < _NEAR))
    if far != 0:
        _far_terms(q, p, z)
        return
    for j in range(m):
        z[j] = p[j] * _log_of(z[j])


@kernel
def _log_of(s: float) -> float:
    """Return log((1 + s) / (1 - s)) = 2 artanh(s) for |s| up to 0.172."""
    t = s * s
    r = 1.0 / 19.0
    r = r * t + 1.0 / 17.0
    r = r * t + 1.0 / 15.0
    r = r * t + 1.0 / 13.0
    r = r * t + 1.0 / 11.0
    r = r * t + 1.0 / 9.0
    r = r * t + 1.0 / 7.0
    r = r * t + 1.0 / 5.0
    r = r * t + 1.0 / 3.0
    return 2.0 * s * (r * t + 1.0)


@kernel
def _far_terms(q: F64s, p: F64s, z: F64s) -> None:
    """Fill `z` (m,) with p log(p/q) where some ratios are far from 1; `q` is lost."""
    m = z.shape[0]
    bits = bits_of(z, np.int64)
    whole_bits = bits_of(q, np.int64)
    for j in range(m):
        z[j] = p[j] / q[j]
    for j in range(m):
        # The exponent as a number: put below that of 2^52, which is then taken away.
        exponent = np.int64(bits[j] >> np.int64(52)) & np.int64(0x7FF)
        whole_bits[j] = exponent | np.int64(0x4330000000000000)
        bits[j] = (bits[j] & np.int64(0x000FFFFFFFFFFFFF)) | np.int64(0x3FF0000000000000)
    for j in range(m):
        large = z[j] > _SQRT2
        y = z[j] * (0.5 if large else 1.0)
        power = q[j] - (_2_TO_52 + (1022.0 if large else 1023.0))
        z[j] = p[j] * (power * _LN2 + _log_of((y - 1.0) / (y + 1.0)))
