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
    """Return the memory of a spectrum: squares while eigenvectors are found, else blocks of lines.

    One square more than one step takes, for what the first step has found is there in the second.
    """
    return 8 * max((SQUARES + 1) * short**2, 3 * short**2 + 3 * min(LINES, long) * short)


def isotropic_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.isotropic.isotropic` takes: the sum, a wide change, a spectrum."""
    long, short = max(n_out, n_in), min(n_out, n_in)
    held = 1 + (n_out < n_in)
    return JointCost(
        8 * held * long * short + spectrum_nbytes(long, short),
        spectrum_flops(long, short) + 2 * long * short**2 + 2 * short**3 + n * long * short,
        short,
    )


def task_singular_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.task_singular.task_singular` takes: all kept vectors, a wide change."""
    long, short = max(n_out, n_in), min(n_out, n_in)
    rank = max(1, short // n)
    held = 1 + (n_out < n_in)
    return JointCost(
        8 * held * long * max(short, rank * n) + frame_nbytes(long, short, rank * n),
        n * (spectrum_flops(long, short) + 2 * long * short * rank)
        + frame_flops(long, short, rank * n),
        max(short, rank * n),
    )


def common_space_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.common_space.common_and_own` takes: the sum, what is left of a change.

    All directions are counted as common for products, and none for what they are in the end.
    """
    long, short = max(n_out, n_in), min(n_out, n_in)
    held = 2 + (n_out < n_in)
    return JointCost(
        8 * held * long * short + frame_nbytes(long, short, short),
        (n + 1) * spectrum_flops(long, short)
        + 2 * long * short**2 * (1 + (2 if n_out < n_in else 4) * n)
        + frame_flops(long, short, short),
        short,
    )


def frame_nbytes(long: int, short: int, k: int) -> int:
    """Return the memory of finding k triplets and joining them, beside the longer vectors."""
    widest = max(short, k)
    return spectrum_nbytes(long, widest) + 8 * 2 * k * short


def frame_flops(long: int, short: int, k: int) -> float:
    """Return the operations of joining k triplets: a Gram matrix for each side, products."""
    roots = (long + short) * k**2 + 2 * (EIGH + 2) * k**3
    return roots + 4 * k**2 * short + 2 * long * short * k


def null_space_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.null_space.filtered` takes: the sum, a wide map's change and vectors.

    All directions are counted as protected.
    """
    long, short = max(n_out, n_in), min(n_out, n_in)
    held = 3 if n_out < n_in else 1
    return JointCost(
        8 * held * long * short + spectrum_nbytes(long, short),
        max(0, n - 1) * (spectrum_flops(long, short) + (6 if held > 1 else 4) * long * short**2),
        short,
    )


def calibration_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.calibration.calibrated` takes: the longer vectors, a wide change."""
    long, short = max(n_out, n_in), min(n_out, n_in)
    held = 1 + (n_out < n_in)
    return JointCost(
        8 * held * long * short + spectrum_nbytes(long, short),
        spectrum_flops(long, short) + 2 * (n + 1) * long * short**2,
        short,
    )


def knots_cost(n_out: int, n_in: int, n: int) -> JointCost:
    """Return what `maths.knots.knotted` takes: all changes, and five arrays to elect in."""
    long, short = max(n_out, n * n_in), min(n_out, n * n_in)
    common = n_out * short if n * n_in < n_out else 0
    electing = 8 * (5 * n_in * short + short**2)
    return JointCost(
        8 * (n * n_out * n_in + common) + max(spectrum_nbytes(long, short), electing),
        spectrum_flops(long, short) + 2 * long * short**2 + 2 * n_out * n_in * short,
        short,
    )
