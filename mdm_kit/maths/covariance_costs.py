"""What `maths.covariance` computes and holds for a weight (out, in), free of heavy imports.

Sums are int64; what is counted here as memory is beside them and beside the rows a model hands out.
"""

from __future__ import annotations

import math

ROWS = 1024
"""Rows worked on at a time, whatever the memory budget: products are sums over these blocks."""
PANEL = 256
"""Rows of a symmetric product made at a time, each up to the diagonal's block."""
NOISE = 2.0**-42
"""Times √in · max(tr(C), 1): eigenvalues of C up to here count as zero. Rounding C to its grid
moves them by about 2^-52 · √in · √models, the eigenproblem by a few 2^-52 · tr(C): a thousandth of
the least that is kept."""
NEARLY_NO_RIDGE = 2.0**-32
"""Times in^1.5: from there down, what Cholesky makes of P's rounding where C is zero, in/ridge
times itself, may reach 1e-5 of deltas a thousandth of their base. Eigenvectors tell these
directions from the others. With 4096 inputs it is 3e-11 of them at a ridge of 1."""


def by_rows(n_out: int, n_in: int) -> bool:
    """Return whether d·dᵀ·d is made from d dᵀ (out, out) rather than from dᵀd (in, in).

    That takes 3·out²·in + out·in² multiplications and additions instead of 3·out·in².
    """
    return 3 * n_out < 2 * n_in


def by_eigenvectors(n_in: int, ridge: float) -> bool:
    """Return whether the inverse is made from eigenvectors, not by Cholesky: nearly no ridge."""
    return ridge <= NEARLY_NO_RIDGE * n_in * math.sqrt(n_in)


def sums_nbytes(n_out: int, n_in: int) -> int:
    """Return the size of the three sums: two (out, in) and a triangle of (in, in), int64."""
    return 8 * (2 * n_out * n_in + n_in * (n_in + 1) // 2)


def add_flops(n_out: int, n_in: int) -> int:
    """Return the multiplications and additions to add a model."""
    gram = n_out * n_in * (n_in + PANEL)
    if not by_rows(n_out, n_in):
        return gram + 2 * n_out * n_in**2
    return gram + n_out * n_in * (n_out + PANEL) + 2 * n_out**2 * n_in


def add_nbytes(n_out: int, n_in: int) -> int:
    """Return the memory (bytes) to add a model: one product, and d or blocks of its rows."""
    rows = min(ROWS, n_out)
    if not by_rows(n_out, n_in):
        return 8 * (n_in**2 + 2 * rows * n_in)
    return 8 * (n_out * n_in + n_out**2 + max(rows, PANEL) * n_in)


def solve_flops(n_out: int, n_in: int, ridge: float) -> int:
    """Return the multiplications and additions to solve.

    All eigenvectors take about 9 n³ (Golub and Van Loan, Matrix Computations, §8.3).
    """
    if by_eigenvectors(n_in, ridge):
        return 9 * n_in**3 + 6 * n_out * n_in**2
    return n_in**3 // 3 + 2 * n_out * n_in**2


def solve_nbytes(n_out: int, n_in: int, ridge: float) -> int:
    """Return the memory (bytes) to solve: one matrix (in, in) and blocks of rows, or four."""
    rows = min(ROWS, n_out) * n_in
    if by_eigenvectors(n_in, ridge):
        return 8 * max(4 * n_in**2, n_in**2 + 5 * rows)
    return 8 * (n_in**2 + 3 * rows)
