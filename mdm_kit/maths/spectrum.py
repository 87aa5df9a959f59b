"""Singular values and right singular vectors of a tall matrix, from its float64 Gram matrix.

G = SᵀS = V Λ Vᵀ has the size of the shorter side whatever the longer one is, and left singular
vectors are never needed: u_i = S v_i / σ_i. Squaring costs half the digits, so singular values
below about 1e-7 of the largest are noise. Products are torch's; their bits are those of one BLAS
thread, which the caller sees to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.errors import MdmError, NotFiniteError
from mdm_kit.maths.blocks import BLOCK

NEGLIGIBLE = 1e-7
"""Singular values below this share of the largest are rounding, of float32 as of the Gram route."""
_PANEL = 256
"""Rows of half a matrix computed at once. What lies below its diagonal is skipped, but for the
panels' own corners; panels half as wide are slower than the whole."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """`values` (n,), float64 and descending, and `vectors` (n, n): row i is v_i."""

    values: Tensor
    vectors: Tensor


@dataclass(frozen=True, slots=True)
class Split:
    """Where a spectrum is cut: the first `rank` directions are its head, all after `live` are dead.

    `margin` is the smallest live singular value over the tolerance, infinite if there is none.
    """

    rank: int
    live: int
    margin: float


def add_upper(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Add leftᵀ right to the upper triangle of `out` (n, n); the lower is left undefined.

    Both (count, n) float64, contiguous and allocated by torch: their alignment decides bits.
    """
    for first in range(0, out.shape[0], _PANEL):
        panel = slice(first, first + _PANEL)
        out[panel, first:].addmm_(left[:, panel].mT, right[:, first:])


def mirrored(upper: Tensor) -> Tensor:
    """Return the symmetric matrix (n, n) with this upper triangle."""
    return upper.triu().add_(upper.triu(1).mT)


def quadratic_forms(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Return xᵀ M x for every row x of `vectors` (r, n) and M (n, n), as (r,) float64."""
    upper = matrix.triu().add_(matrix.tril(-1).mT)  # the same forms, half the products
    found = vectors.new_zeros(len(vectors))
    for first in range(0, len(matrix), _PANEL):
        last = first + _PANEL
        products = vectors[:, :last] @ upper[:last, first:last]
        found += torch.linalg.vecdot(products, vectors[:, first:last])
    return found


def spectrum_of(gram: Tensor) -> Spectrum:
    """Return the spectrum of S from the upper triangle of `gram` = SᵀS (n, n) float64.

    Raises `NotFiniteError` for a NaN or an infinity, `MdmError` if no solver converges.
    """
    return _first_solution(gram, (_by_eigh, _by_svd))


def _first_solution(gram: Tensor, solvers: Sequence[Callable[[Tensor], Spectrum]]) -> Spectrum:
    n = gram.shape[0]
    if not math.isfinite(float(gram.diagonal().sum())):
        raise NotFiniteError(f"the Gram matrix of {n} columns holds a NaN or an infinity")
    for solve in solvers:
        try:
            return solve(gram)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            continue
    raise MdmError(
        f"the singular values of a matrix with {n} columns did not converge; "
        "leave the tensor out of the projection, or try another version of torch"
    )


def _by_eigh(gram: Tensor) -> Spectrum:
    squares, vectors = torch.linalg.eigh(gram, UPLO="U")  # a tenth faster than "L" with MKL
    return Spectrum(squares.flip(0).clamp_(min=0).sqrt_(), vectors.mT.flip(0))


def _by_svd(gram: Tensor) -> Spectrum:
    """Other routines of LAPACK, slower, for when divide and conquer has failed."""
    vectors, squares, _ = torch.linalg.svd(mirrored(gram))
    return Spectrum(squares.sqrt(), vectors.mT.contiguous())


def split(values: Tensor, *, alpha: float, tail_tol: float | None, noise_edge: float) -> Split:
    """Cut a spectrum (n,) descending: the first index whose cumulated share exceeds `alpha`.

    Live are values above `tail_tol` times the largest; without it, above both 1e-7 of the largest
    and `noise_edge`, the largest singular value that rounding of stored weights can make. With
    `alpha` >= 1 everything live is the head.
    """
    sigma = values.tolist()
    largest = sigma[0] if sigma else 0.0
    if largest <= 0.0:
        return Split(0, 0, math.inf)
    edge = tail_tol * largest if tail_tol is not None else max(NEGLIGIBLE * largest, noise_edge)
    live = sum(s > edge for s in sigma)
    counted = [s if s >= NEGLIGIBLE * largest else 0.0 for s in sigma]
    margin = sigma[live - 1] / edge if live and edge > 0.0 else math.inf
    return Split(live if alpha >= 1 else min(live, _first_above(counted, alpha)), live, margin)


def _first_above(values: Sequence[float], share: float) -> int:
    total, summed = math.fsum(values), 0.0
    for i, value in enumerate(values):
        summed += value
        if summed / total > share:
            return i
    return 0


def squared_norm(lines: Tensor) -> float:
    """Return Σ x² of a contiguous tensor, in float64 over blocks of 65,536 joined left to right."""
    flat, total = lines.view(-1), 0.0
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK].double()
        total += float(torch.mul(block, block).sum())
    return total
