"""Numbers as checkpoints store them, for this folder's tests, in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STORED = {"F32": np.uint32, "BF16": np.uint16, "F16": np.uint16, "F64": np.uint64}
"""The unsigned type as wide as a dtype's numbers."""
FRACTION = {"F32": 23, "BF16": 7, "F16": 10, "F64": 52}
"""Bits of a dtype's fraction; the sign is one bit, the rest is the exponent."""
LOWEST = {"F32": -126, "BF16": -126, "F16": -14, "F64": -1022}
"""Exponent of a dtype's smallest normal number."""


def values(bits: NDArray[np.unsignedinteger], dtype: str) -> NDArray[np.float64]:
    """Return what the bits mean, exactly."""
    if dtype == "BF16":
        bits = bits.astype(np.uint32) << 16
    kinds = {"F32": np.float32, "BF16": np.float32, "F16": np.float16, "F64": np.float64}
    with np.errstate(invalid="ignore"):
        return bits.view(kinds[dtype]).astype(np.float64)


def rounded(x: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Return `x` rounded to nearest, ties to even, by the definition; infinity beyond the range."""
    if dtype == "F64":
        return x
    _, exponents = np.frexp(x)
    unit = np.maximum(exponents - 1, LOWEST[dtype]) - FRACTION[dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.ldexp(np.rint(np.ldexp(x, -unit)), unit)
    return np.where(np.abs(near) > largest(dtype), np.copysign(np.inf, x), near)


def infinity(dtype: str) -> int:
    """Return the bits of a dtype's infinity; all magnitudes below it are finite."""
    width = STORED[dtype]().itemsize * 8
    return (1 << (width - 1)) - (1 << FRACTION[dtype])


def largest(dtype: str) -> float:
    """Return a dtype's largest finite number."""
    return float(values(np.array([infinity(dtype) - 1], STORED[dtype]), dtype)[0])


def edges(dtype: str) -> NDArray[np.unsignedinteger]:
    """Return the magnitudes where something changes, and both signs of each, as bits."""
    one = infinity(dtype) // 2 - (1 << FRACTION[dtype]) // 2
    normal = 1 << FRACTION[dtype]
    found = [0, 1, 2, 3, normal - 1, normal, normal + 1, one, one + 1]
    found += [infinity(dtype) - 2, infinity(dtype) - 1]
    sign = 1 << (STORED[dtype]().itemsize * 8 - 1)
    return np.array([*found, *(bits | sign for bits in found)], STORED[dtype])


def any_bits(rng: np.random.Generator, dtype: str, n: int) -> NDArray[np.unsignedinteger]:
    """Return the bits of n finite numbers: every magnitude alike, the edges among them."""
    width = STORED[dtype]().itemsize * 8
    magnitude = rng.integers(0, infinity(dtype), n, np.uint64)
    sign = rng.integers(0, 2, n, np.uint64) << np.uint64(width - 1)
    bits = (magnitude | sign).astype(STORED[dtype])
    special = rng.random(n) < 0.05
    bits[special] = rng.choice(edges(dtype), int(special.sum()))
    return bits


def weight_bits(rng: np.random.Generator, dtype: str, n: int) -> NDArray[np.unsignedinteger]:
    """Return the bits of n numbers of the size of a model's weights, and some much smaller."""
    x = rng.standard_normal(n) * 2.0 ** rng.integers(-30, 1, n)
    return bits_of(rounded(x, dtype), dtype)


def bits_of(x: NDArray[np.float64], dtype: str) -> NDArray[np.unsignedinteger]:
    """Return the bits of numbers that the dtype has."""
    kinds = {"F32": np.float32, "BF16": np.float32, "F16": np.float16, "F64": np.float64}
    bits = x.astype(kinds[dtype]).view(np.uint32 if dtype == "BF16" else STORED[dtype])
    return (bits >> 16).astype(np.uint16) if dtype == "BF16" else bits
