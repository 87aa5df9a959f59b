"""Orthogonal components of a few deltas, from their Gram matrix alone.

For N deltas with Gram matrix G every orthogonalisation here is one N x N matrix A: the components
are e = A d, and A G Aᵀ = diag(q) with q_i = ‖e_i‖². A merge base + Σ α_i e_i is then the sum
base + Σ w_i d_i with w = Aᵀ α, and no component is ever stored. Plain Python floats in one fixed
order, so that a merge and its ledger get the same bits wherever they run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Matrix = tuple[tuple[float, ...], ...]

DEPENDENT = 1e-12
"""A delta whose component holds at most this share of its energy lies in the span of the others."""
SINGULAR = 1e-12
"""Eigenvalues of a matrix of cosines below this are mostly the rounding of its entries."""
NEARLY_DEPENDENT = 1e-8
"""Below this share of its energy the sums behind a component must be compensated."""
_JACOBI_SWEEPS = 60
"""Far more than the 6 to 10 sweeps that matrices of this size take to converge quadratically."""


@dataclass(frozen=True, slots=True)
class Gram:
    """Inner products of N deltas as a lower triangle: (0,0), (1,0), (1,1), (2,0), ..."""

    triangle: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of deltas."""
        return (math.isqrt(8 * len(self.triangle) + 1) - 1) // 2

    def at(self, i: int, j: int) -> float:
        """Return ⟨d_i, d_j⟩."""
        low, high = min(i, j), max(i, j)
        return self.triangle[high * (high + 1) // 2 + low]

    def largest_cosine(self) -> float:
        """Return the largest |cosine| between two deltas; 0 without two that are not zero."""
        cosines = [
            abs(self.at(i, j)) / math.sqrt(self.at(i, i)) / math.sqrt(self.at(j, j))
            for i in range(self.n)
            for j in range(i)
            if self.at(i, i) > 0 and self.at(j, j) > 0
        ]
        return max(cosines, default=0.0)

    def energy(self, w: Sequence[float]) -> float:
        """Return wᵀ G w = ‖Σ w_i d_i‖²; rounding never makes it negative."""
        terms = [w[i] * w[j] * self.at(i, j) for i in range(self.n) for j in range(self.n)]
        return max(0.0, math.fsum(terms))


def summed(grams: Sequence[Gram]) -> Gram:
    """Return the Gram matrix of the concatenated deltas: the sum, entry by entry.

    An entry that leaves float64's range is infinite.
    """
    return Gram(tuple(map(fsum, zip(*(g.triangle for g in grams), strict=True))))


def fsum(entries: Sequence[float]) -> float:
    """Return the exactly rounded sum, infinite where it leaves float64's range."""
    try:
        return math.fsum(entries)
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class Basis:
    """An orthogonalisation: the matrix A and the energies q of the components.

    `dependent` holds the positions of deltas that lie in the span of others (or are zero).
    """

    matrix: Matrix
    q: tuple[float, ...]
    dependent: tuple[int, ...]

    def weights(self, alpha: Sequence[float]) -> tuple[float, ...]:
        """Return w = Aᵀ α: what each delta is multiplied by when component i counts α_i times."""
        n = len(self.q)
        return tuple(math.fsum(alpha[j] * self.matrix[j][i] for j in range(n)) for i in range(n))


def gram_schmidt(gram: Gram) -> Basis:
    """Return Gram-Schmidt in the order of the deltas: A = L⁻¹ with G = L diag(q) Lᵀ, L unit lower.

    A dependent delta has the component zero and is left out of all later ones.
    """
    lower, q = _factors(gram)
    n = len(q)
    rows: list[tuple[float, ...]] = []
    for j, known in enumerate(lower):
        row = [math.fsum([-known[m] * rows[m][i] for m in range(i, j)]) for i in range(j)]
        rows.append((*row, 1.0, *(0.0,) * (n - 1 - j)) if q[j] > 0 else (0.0,) * n)
    dead = tuple(j for j in range(n) if q[j] == 0.0)
    return Basis(tuple(rows), tuple(q), dead)


def _factors(gram: Gram) -> tuple[list[list[float]], list[float]]:
    """Return L without its unit diagonal, row by row, and q: G = L diag(q) Lᵀ."""
    lower: list[list[float]] = []
    q: list[float] = []
    g = gram.triangle
    for j in range(gram.n):
        row: list[float] = []
        at = j * (j + 1) // 2
        for i in range(j):
            known = [-row[m] * q[m] * lower[i][m] for m in range(i)]
            row.append(math.fsum([g[at + i], *known]) / q[i] if q[i] > 0 else 0.0)
        left = math.fsum([g[at + j], *(-x * x * q[m] for m, x in enumerate(row))])
        lower.append(row)
        q.append(left if left > DEPENDENT * g[at + j] else 0.0)
    return lower, q


def lowdin(gram: Gram) -> Basis:
    """Return Löwdin's symmetric orthogonalisation: the orthogonal set nearest to the deltas.

    A = D C^{-1/2} D⁻¹ with the norms D and the cosines C; norms stay as they are and the order of
    the models does not matter (Löwdin 1950, doi:10.1063/1.1747632). Where the deltas are dependent,
    the inverse root is taken on their span.
    """
    n = gram.n
    norms = [math.sqrt(gram.at(i, i)) for i in range(n)]
    live = [i for i in range(n) if norms[i] > 0]
    cosines = [[gram.at(i, j) / (norms[i] * norms[j]) for j in live] for i in live]
    values, vectors = symmetric_eigen(cosines)
    roots = [1.0 / math.sqrt(v) if v > SINGULAR else 0.0 for v in values]
    rows = [[0.0] * n for _ in range(n)]
    for a, i in enumerate(live):
        for b, j in enumerate(live):
            terms = [vectors[a][m] * roots[m] * vectors[b][m] for m in range(len(live))]
            rows[i][j] = norms[i] * math.fsum(terms) / norms[j]
    q = tuple(gram.energy(row) for row in rows)
    return Basis(tuple(map(tuple, rows)), q, gram_schmidt(gram).dependent)


def untouched(gram: Gram) -> Basis:
    """Return the deltas as they are: A is the identity, q their energies."""
    n = gram.n
    rows = tuple(tuple(1.0 if i == j else 0.0 for j in range(n)) for i in range(n))
    return Basis(rows, tuple(gram.at(i, i) for i in range(n)), ())


def nearly_dependent(gram: Gram) -> bool:
    """Whether a component is so small beside its delta that plain float64 sums blur it."""
    _, q = _factors(gram)
    return any(0 < x <= NEARLY_DEPENDENT * gram.at(i, i) for i, x in enumerate(q))


def condition(gram: Gram) -> float:
    """Return κ = max ‖d_i‖²/q_i over the deltas that are not dependent; 1 without any.

    The rounding of inner products comes back in the cosines of components κ times as large.
    """
    _, q = _factors(gram)
    return max((gram.at(i, i) / x for i, x in enumerate(q) if x > 0), default=1.0)


ORTHOGONALISATIONS: dict[str, Callable[[Gram], Basis]] = {
    "gram_schmidt": gram_schmidt,
    "lowdin": lowdin,
    "none": untouched,
}


def symmetric_eigen(matrix: Sequence[Sequence[float]]) -> tuple[list[float], list[list[float]]]:
    """Return eigenvalues and eigenvectors (columns) of a small symmetric matrix.

    Cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, §8.5) in one fixed order: slow
    for a library, exact to rounding, and the same bits everywhere.
    """
    n = len(matrix)
    a = [list(row) for row in matrix]
    v = [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]
    scale = math.fsum(a[i][i] ** 2 for i in range(n))
    for _ in range(_JACOBI_SWEEPS):
        if math.fsum(a[i][j] ** 2 for i in range(n) for j in range(i)) <= 1e-34 * scale:
            break
        for p in range(n):
            for r in range(p + 1, n):
                _rotate(a, v, p, r)
    return [a[i][i] for i in range(n)], v


def _rotate(a: list[list[float]], v: list[list[float]], p: int, r: int) -> None:
    if a[p][r] == 0.0:
        return
    tau = (a[r][r] - a[p][p]) / (2.0 * a[p][r])
    t = math.copysign(1.0, tau) / (abs(tau) + math.hypot(1.0, tau))
    c = 1.0 / math.hypot(1.0, t)
    s = t * c
    for k in range(len(a)):
        a[k][p], a[k][r] = c * a[k][p] - s * a[k][r], s * a[k][p] + c * a[k][r]
    for k in range(len(a)):
        a[p][k], a[r][k] = c * a[p][k] - s * a[r][k], s * a[p][k] + c * a[r][k]
        v[k][p], v[k][r] = c * v[k][p] - s * v[k][r], s * v[k][p] + c * v[k][r]
