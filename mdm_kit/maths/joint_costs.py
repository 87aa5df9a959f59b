"""What merging all models' changes to a linear map at once takes, for plans; free of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mdm_kit.maths.spectral_costs import EIGH, LINES, SQUARES


@dataclass(frozen=True, slots=True)
class JointCost:
    """Memory in bytes and float64 operations of a map, and the side of its largest Gram matrix."""

    nbytes: int
    flops: float
    side: int


Costing = Callable[[int, int, int], JointCost]
"""The cost for (out, in) and the number of models."""


def spectrum_flops(long: int, short: int) -> float:
    """Return the operations of a spectrum, of one whose values lie within four decades."""
    return long * short**2 + EIGH * short**3


def spectrum_nbytes(long: int, short: int) -> int:
    """Return the memory of a spectrum: squares, one of them the first step's, and blocks."""
    return 8 * ((SQUARES + 1) * short**2 + 3 * min(LINES, long) * short)


def isotropic_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.isotropic.isotropic` takes: the sum, a wide change, a spectrum."""
    long, short = max(n_out, n_in), min(n_out, n_in)
    held = 1 + (n_out < n_in)
    return JointCost(
        8 * held * long * short + spectrum_nbytes(long, short),
        spectrum_flops(long, short) + 2 * long * short**2 + 2 * short**3 + n * long * short,
        short,
    )
