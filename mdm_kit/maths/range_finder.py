"""The best factors of low rank of a matrix, by a randomised range finder.

Halko, Martinsson and Tropp 2011, arXiv:0909.4061, Alg. 4.4 and 5.1: a Gaussian test matrix sees the
range of d, power iterations with a QR between products turn it to the largest singular directions,
and the rest is algebra of the basis' own size. Products are float32, the small algebra is float64.
For a share of the energy the basis grows by blocks, as in their Alg. 4.2, until it holds enough.
Bits are those of one BLAS thread, which the caller sees to.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.spectrum import add_upper, spectrum_of, squared_norm

OVERSAMPLED = 10
"""Columns beyond the rank; 5 to 10 are enough (Halko et al., section 4.2)."""
POWER = 2
"""Power iterations; two are enough for flat spectra, too (their section 4.5)."""
RESOLVED = 1e-6
"""Singular values below this share of the largest are rounding of float32 products."""
_FIRST_BLOCK = 32
"""Columns of the first basis for a share of the energy; each block doubles the basis."""


@dataclass(frozen=True, slots=True)
class Factored:
    """`left` (m, r) and `right` (r, n), float32, whose product is near d; σ is halved among them.

    `rank` is r, which may be less than was asked: d has no more singular values that are numbers.
    """

    left: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """How many columns `left` has."""
        return self.left.shape[1]


def numbers_of(seed: int, name: str) -> torch.Generator:
    """Return the generator of a tensor's test matrices, by the seed and the tensor's name alone."""
    digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def of_rank(d: Tensor, rank: int, numbers: torch.Generator) -> Factored:
    """Return d (m, n) float32 in factors of `rank` at most, as good as the best to 2 per cent.

    That is of the error ‖d − left right‖, whatever the spectrum.
    """
    flat = _lying(d)
    limit = min(d.shape)
    if 2 * (rank + OVERSAMPLED) > limit:
        values, basis = _all_directions(flat)
    else:
        basis = _grown(flat, flat.new_empty(limit, 0), rank + OVERSAMPLED, numbers)
        values, basis = _turned(flat, basis)
    return _factored(d, values, basis, min(rank, limit))


def of_energy(
    d: Tensor, energy: float, numbers: torch.Generator, max_rank: int | None = None
) -> Factored:
    """Return d (m, n) float32 in factors of the least rank that hold `energy` of ‖d‖².

    Of `max_rank` where that is less. The singular values are those of a basis that holds
    `OVERSAMPLED` directions more, or of d itself.
    """
    flat = _lying(d)
    limit = min(d.shape)
    most = min(limit, max_rank or limit)
    wanted = energy * squared_norm(d.contiguous())
    basis = flat.new_empty(limit, 0)
    block = min(most, _FIRST_BLOCK) + OVERSAMPLED
    while 2 * (basis.shape[1] + block) <= limit:
        basis = _grown(flat, basis, block, numbers)
        values, turned = _turned(flat, basis)
        certain = basis.shape[1] - OVERSAMPLED
        rank = _least(values, wanted)
        if rank <= certain or certain >= most:
            return _factored(d, values, turned, min(rank, most))
        block = min(basis.shape[1], most + OVERSAMPLED - basis.shape[1])
    values, basis = _all_directions(flat)
    return _factored(d, values, basis, min(_least(values, wanted), most))


def _lying(d: Tensor) -> Tensor:
    """Return d or its transpose, whichever has fewer rows: the basis is of the shorter side."""
    return d if d.shape[0] <= d.shape[1] else d.mT


def _grown(flat: Tensor, basis: Tensor, count: int, numbers: torch.Generator) -> Tensor:
    """Return `basis` (m, l) with `count` orthonormal columns more of the range of flat (m, n)."""
    test = torch.randn(flat.shape[1], count, generator=numbers)
    fresh = _beside(basis, flat @ test)
    for _ in range(POWER):
        test = torch.linalg.qr(flat.mT @ fresh)[0]
        fresh = _beside(basis, flat @ test)
    return torch.cat((basis, fresh), 1)


def _beside(basis: Tensor, columns: Tensor) -> Tensor:
    """Return an orthonormal basis of `columns` (m, c) without what lies in `basis` (m, l)."""
    for _ in range(2 if basis.shape[1] else 1):  # what is small beside what was taken out
        fresh: Tensor = torch.linalg.qr(columns - basis @ (basis.mT @ columns))[0]
        columns = fresh
    return columns


def _turned(flat: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values (l,) float64 that `basis` sees, and the basis along them."""
    seen = (basis.mT @ flat).double()
    found = spectrum_of(seen @ seen.mT)
    return found.values, basis @ found.vectors.mT.float()


def _all_directions(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return all singular values (m,) of flat (m, n), and all its left directions (m, m)."""
    gram = torch.zeros(flat.shape[0], flat.shape[0], dtype=torch.float64)
    at_once = max(1, BLOCK // flat.shape[0])
    for start in range(0, flat.shape[1], at_once):
        lines = flat[:, start : start + at_once].mT.double().contiguous()
        add_upper(gram, lines, lines)
    found = spectrum_of(gram)
    return found.values, found.vectors.mT.float()


def _least(values: Tensor, wanted: float) -> int:
    """Return how many of the largest values it takes to reach the squared norm `wanted`.

    One more than there are where all of them do not.
    """
    reached = itertools.accumulate(v * v for v in values.tolist())
    return next((i + 1 for i, s in enumerate(reached) if s >= wanted), len(values) + 1)


def _factored(d: Tensor, values: Tensor, basis: Tensor, rank: int) -> Factored:
    """Return d's share along the first `rank` directions of the shorter side."""
    rank = min(rank, _resolved(values.tolist()))
    along = basis[:, :rank]
    root = values[:rank].sqrt().float()
    if d.shape[0] <= d.shape[1]:
        return Factored(along * root, (along.mT @ d) / root[:, None])
    return Factored((d @ along) / root, (along * root).mT.contiguous())


def _resolved(values: Sequence[float]) -> int:
    edge = RESOLVED * values[0] if values else math.inf
    return sum(v > edge for v in values)
