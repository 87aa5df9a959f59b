"""What a step of the projection takes, for plans; free of torch."""

from __future__ import annotations

EIGH = 12.5
"""Time of an eigendecomposition over n³, in float64 operations of a matrix product; measured at
n = 1024 and 2048 with MKL on one thread."""
SQUARES = 7
"""Square matrices of the shorter side that are held at once; measured at n = 2300: 6.2."""
LINES = 4096
"""Lines of a matrix, seen along its longer side, that are multiplied at once. Sums over lines are
joined here, so their bits depend on it, and it on nothing."""


def step_flops(long: int, short: int) -> float:
    """Return the float64 operations of one step, in units of those in a matrix product.

    Measured: 45 to 55 thousand million of them a second on one thread of a 2.8 GHz Xeon with
    AVX-512. `paper` takes up to two products more, with the columns of the head.
    """
    return 5.2 * long * short**2 + (EIGH + 2.5) * short**3


def step_memory(long: int, short: int) -> int:
    """Return the bytes a step works in, at most, beyond the sum and the change themselves.

    Square matrices, most of them while eigenvectors are found, and three blocks of lines.
    """
    return 8 * (SQUARES * short**2 + 3 * min(LINES, long) * short)
