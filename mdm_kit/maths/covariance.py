"""The change nearest to all models' where each model's own rows lie: sums over models, and a solve.

For deltas d_i (out, in) of one weight, C_i = d_iᵀd_i / ‖d_i‖² and weights w_i ≥ 0:

    A = Σ w_i d_i,   P = Σ w_i d_i C_i,   C = Σ w_i C_i,   μ = ridge · tr(C) / in
    M = A + (P - A C)(C + μ I)⁻¹ = (P + μ A)(C + μ I)⁻¹

M minimises Σ w_i ‖(M - d_i) d_iᵀ‖² / ‖d_i‖² + μ ‖M - A‖². The first sum is the interference that
WUDI lessens by gradient steps (Cheng et al. 2025, "Whoever started the interference should end it",
arXiv:2503.08099). tr(C) is the sum of the weights of the models with a delta.

A, P and C are exact sums on grids (`maths.grid`): any order of models, and taking some out again,
gives the same bits. M carries the rounding of P and C up to in / (ridge · Σ w_i) times as large.
Bits depend on the number of BLAS threads, which the caller fixes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mdm_kit.errors import IntegrityError, NotFiniteError
from mdm_kit.maths.clock import Clock, untimed
from mdm_kit.maths.covariance_costs import NOISE, PANEL, ROWS, by_eigenvectors, by_rows
from mdm_kit.maths.grid import Grid, I64s

DELTA_BITS, PRODUCT_BITS = 48, 56
"""Bits of A and P below the base's largest magnitude: 2^14 and 2^6 times that magnitude fit. P is
the finer one for what the inverse makes of its rounding; no entry of A is amplified."""
GRAM = Grid(-52)
"""The grid of C, whose entries are at most Σ w_i; that may be 1024."""

_LEAST_ENERGY = 2.0**-900
"""A smaller ‖d‖², whose inverse may leave float64's range, counts as none."""

_DAMAGED = (
    "the sums of a covariance merge are no sums of models: one was taken out that was not in them, "
    "or with another weight; build them again from the models"
)

_Apply = Callable[[Tensor, Tensor, Tensor], None]


class Change(Protocol):
    """A model's delta d (rows, columns), which can be read more than once."""

    rows: int
    columns: int

    def lines(self, start: int, count: int) -> Tensor:
        """Return rows (count, columns), float32 or float64."""


@dataclass(frozen=True, slots=True)
class Sums:
    """A and P (out, in) and the lower triangle of C, row behind row, in steps of their grids.

    Arrays may be any views of int64, of files too. `deltas_grid` and `products_grid` are A's and
    P's; see `grids_of`.
    """

    deltas: I64s
    products: I64s
    gram: I64s
    deltas_grid: Grid
    products_grid: Grid


@dataclass(frozen=True, slots=True)
class Added:
    """What a model brought: ‖d‖², and the ‖d dᵀ‖² / ‖d‖² it has to lose by interference."""

    energy: float
    at_stake: float


@dataclass(frozen=True, slots=True)
class Solved:
    """Rows of M (count, in) float64 from `start` on, valid until the next are asked for.

    The interference left is Σ w_i at_stake_i, less all rows' `saved`.
    """

    start: int
    rows: Tensor
    saved: float


def grids_of(largest: float) -> tuple[Grid, Grid]:
    """Return the grids of A and P for a base with this largest magnitude.

    A's is for the sums of deltas of tensors that are not solved, too. Raises `ValueError` if the
    base is not finite.
    """
    return Grid.of_base(largest, DELTA_BITS), Grid.of_base(largest, PRODUCT_BITS)


def add(
    change: Change, weight: float, sums: Sums, *, sign: int = 1, clock: Clock = untimed
) -> Added:
    """Add a model to the sums or, with `sign` -1, take it out again.

    A delta of zero brings nothing. Raises `NotFiniteError` where d or ‖d‖² is not finite, with the
    sums untouched, and `MisfitError` where a sum has no room, with the sums spoiled.
    """
    if by_rows(change.rows, change.columns):
        return _add_wide(change, weight, sums, sign, clock)
    return _add_tall(change, weight, sums, sign, clock)


def solve(sums: Sums, ridge: float, *, clock: Clock = untimed) -> Iterator[Solved]:
    """Return M, rows from the first to the last.

    `ridge` 0 means the pseudo-inverse of C. Raises `IntegrityError` where C is no sum of
    covariances: a model was taken out that was not in it.
    """
    n_out, n = sums.deltas.shape
    trace = _trace(sums.gram, n)
    mu = ridge * trace / n
    apply: _Apply
    with clock("eigen"):
        if trace == 0:
            apply = _nothing
        elif by_eigenvectors(n, ridge):
            apply = _barely_ridged(sums.gram, n, mu, NOISE * math.sqrt(n) * max(trace, 1.0))
        else:
            apply = _ridged(sums.gram, n, mu)
    a, p, m = torch.empty(3, min(ROWS, n_out), n, dtype=torch.float64)
    for start, count in _blocks(n_out, ROWS):
        sums.deltas_grid.read(sums.deltas[start : start + count], a[:count])
        sums.products_grid.read(sums.products[start : start + count], p[:count])
        rows = m[:count]
        with clock("products"):
            apply(a[:count], p[:count], rows)
            saved = _dot(rows, p[:count]) + mu * (_dot(rows, rows) - _dot(rows, a[:count]))
        yield Solved(start, rows, saved)


def _add_tall(change: Change, weight: float, sums: Sums, sign: int, clock: Clock) -> Added:
    """Add a model by G = dᵀd: once through its rows for G, once more for d G."""
    n = change.columns
    block, product = torch.empty(2, min(ROWS, change.rows), n, dtype=torch.float64)
    gram = torch.empty(n, n, dtype=torch.float64)
    for start, count in _blocks(change.rows, ROWS):
        d = block[:count].copy_(change.lines(start, count))
        with clock("gram"):
            for first, size in _blocks(n, PANEL):
                end = first + size
                part = gram[first:end, :end]
                part.addmm_(d.T[first:end], d[:, :end], beta=0 if not start else 1)
    with clock("gram"):
        added = _measured(gram)
    if not added.energy:
        return added
    factor = weight / added.energy
    with clock("gram"):
        for first, size in _blocks(n, PANEL):
            GRAM.add_triangle(gram[first : first + size], factor, sums.gram, first, sign=sign)
    for start, count in _blocks(change.rows, ROWS):
        lines = change.lines(start, count)
        here = slice(start, start + count)
        with clock("products"):
            sums.deltas_grid.add(lines, weight, sums.deltas[here], sign=sign)
            torch.mm(block[:count].copy_(lines), gram, out=product[:count])
            sums.products_grid.add(product[:count], factor, sums.products[here], sign=sign)
    return added


def _add_wide(change: Change, weight: float, sums: Sums, sign: int, clock: Clock) -> Added:
    """Add a model by d dᵀ, with d held whole: it is smaller than dᵀd."""
    m, n = change.rows, change.columns
    d = torch.empty(m, n, dtype=torch.float64)
    for start, count in _blocks(m, ROWS):
        d[start : start + count].copy_(change.lines(start, count))
    outer = torch.empty(m, m, dtype=torch.float64)
    with clock("gram"):
        for first, size in _blocks(m, PANEL):
            end = first + size
            torch.mm(d[first:end], d[:end].T, out=outer[first:end, :end])
        added = _measured(outer)
    if not added.energy:
        return added
    factor = weight / added.energy
    room = torch.empty(max(min(ROWS, m), min(PANEL, n)) * n, dtype=torch.float64)
    with clock("products"):
        for start, count in _blocks(m, ROWS):
            here = slice(start, start + count)
            sums.deltas_grid.add(d[here], weight, sums.deltas[here], sign=sign)
            product = torch.mm(outer[here], d, out=room[: count * n].view(count, n))
            sums.products_grid.add(product, factor, sums.products[here], sign=sign)
    with clock("gram"):
        for first, size in _blocks(n, PANEL):
            end = first + size
            part = torch.mm(d.T[first:end], d[:, :end], out=room[: size * end].view(size, end))
            GRAM.add_triangle(part, factor, sums.gram, first, sign=sign)
    return added


def _measured(gram: Tensor) -> Added:
    """Fill in a Gram matrix above the blocks of its diagonal, and return what it says of d."""
    for first, size in _blocks(len(gram), PANEL):
        gram[:first, first : first + size] = gram[first : first + size, :first].T
    energy = math.fsum(gram.diagonal().tolist())
    if not math.isfinite(energy):
        raise NotFiniteError("a model's deltas, or the sum of their squares, are not finite")
    if energy < _LEAST_ENERGY:
        return Added(0.0, 0.0)
    return Added(energy, float(torch.linalg.vector_norm(gram)) ** 2 / energy)


def _ridged(gram: I64s, n: int, mu: float) -> _Apply:
    """Return what solves M (C + μI) = P + μA, by a Cholesky factor in C's place."""
    lower = _matrix(gram, n)
    lower.diagonal().add_(mu)
    # LAPACK's columns are torch's rows, so the lower triangle is its upper one, and nothing is
    # copied.
    failed = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(lower.T, upper=True, out=(lower.T, failed))
    if failed:
        raise IntegrityError(_DAMAGED)

    def apply(a: Tensor, p: Tensor, m: Tensor) -> None:
        torch.mul(a, mu, out=m).add_(p)
        torch.linalg.solve_triangular(lower.T, m, upper=True, left=False, out=m)
        torch.linalg.solve_triangular(lower, m, upper=False, left=False, out=m)

    return apply


def _barely_ridged(gram: I64s, n: int, mu: float, cut: float) -> _Apply:
    """Return what makes M by the eigenvectors V of C whose eigenvalues λ are above the cut.

    M = A + (P V - A V λ)(λ + μ)⁻¹ Vᵀ. Nothing is lost with the others: in exact numbers P and A C
    have no part in the directions where C is zero.
    """
    values, vectors = torch.linalg.eigh(_matrix(gram, n), UPLO="L")
    if values[0] < -cut:
        raise IntegrityError(_DAMAGED)
    dead = int(torch.count_nonzero(values <= cut))
    values, vectors = values[dead:], vectors[:, dead:]

    def apply(a: Tensor, p: Tensor, m: Tensor) -> None:
        along = (p @ vectors).sub_((a @ vectors).mul_(values)).div_(values + mu)
        torch.addmm(a, along, vectors.T, out=m)

    return apply


def _nothing(_a: Tensor, _p: Tensor, m: Tensor) -> None:
    """No model has a delta: the sums are zero."""
    m.zero_()


def _matrix(gram: I64s, n: int) -> Tensor:
    """Return C as numbers, the lower triangle of (n, n); the rest is undefined."""
    c = torch.empty(n, n, dtype=torch.float64)
    GRAM.read_triangle(gram, c)
    return c


def _trace(gram: I64s, n: int) -> float:
    i = np.arange(n)
    steps: list[int] = gram[i * (i + 3) // 2].tolist()
    return sum(steps) * GRAM.step


def _dot(x: Tensor, y: Tensor) -> float:
    return float(torch.dot(x.view(-1), y.view(-1)))


def _blocks(n: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, size):
        yield start, min(size, n - start)
