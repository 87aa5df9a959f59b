"""Singular values and the vectors of the shorter side, true to 1e-8 for every value that counts.

One Gram matrix squares the spectrum: a value of 1e-6 of the largest keeps four digits of sixteen,
and what is divided by it, as the factors of a polar decomposition are, is wrong by as much. So
directions below 3e-4 of the largest are measured again: the matrix is multiplied by them, which
takes the large ones out, and the Gram matrix of that much smaller product tells them apart. Two
such steps reach down to 1e-7 with eight digits left, as a thin SVD would, by products that stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.maths.changes import Lines
from mdm_kit.maths.spectrum import NEGLIGIBLE, add_upper, spectrum_of
from mdm_kit.maths.strips import spans

HEAD = math.sqrt(NEGLIGIBLE)
"""Share of the largest singular value from which on one Gram matrix is enough."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What counts as zero: singular values up to `share` of the largest, and up to `least`."""

    share: float = NEGLIGIBLE
    least: float = 0.0


def cut_at(tail_tol: float | None, edges: Sequence[float]) -> Cut:
    """Return where a matrix is cut whose parts have these noise edges, if there is no `tail_tol`.

    Errors of different models are independent: their squares add up.
    """
    if tail_tol is None:
        return Cut(least=math.hypot(*edges))
    return Cut(max(NEGLIGIBLE, tail_tol))


@dataclass(frozen=True, slots=True)
class Singular:
    """The live singular `values` (k,), descending, and `vectors` (k, short): row i is v_i."""

    values: Tensor
    vectors: Tensor

    def first(self, count: int) -> Singular:
        """Return the largest `count` of them, or all there are."""
        return Singular(self.values[:count], self.vectors[:count])


def singular_of(matrix: Lines, cut: Cut = Cut()) -> Singular:
    """Return the live singular values, none for zeros.

    Raises `NotFiniteError` for a NaN or an infinity, `MdmError` if no solver converges.
    """
    found = spectrum_of(_gram(matrix, None))
    values, vectors = found.values, found.vectors
    largest = float(values[0]) if len(values) else 0.0
    head = int(torch.count_nonzero(values > HEAD * largest))
    if largest > 0 and head < len(values):
        rest = vectors[head:].contiguous()
        again = spectrum_of(_gram(matrix, rest))
        values = torch.cat((values[:head], again.values))
        vectors = torch.cat((vectors[:head], again.vectors @ rest))
    live = int(torch.count_nonzero(values > max(cut.share * largest, cut.least)))
    return Singular(values[:live], vectors[:live])


def write_left(matrix: Lines, found: Singular, out: Tensor) -> None:
    """Write the vectors of the longer side, u_i = matrix v_i / σ_i, into `out` (long, k)."""
    scaled = (found.vectors / found.values[:, None]).mT.contiguous()
    for start, count in spans(matrix.long):
        out[start : start + count] = matrix.lines(start, count) @ scaled


def _gram(matrix: Lines, directions: Tensor | None) -> Tensor:
    """Return the upper triangle of the Gram matrix, in given `directions` (k, short) if any."""
    size = matrix.short if directions is None else len(directions)
    gram = torch.zeros(size, size, dtype=torch.float64)
    for start, count in spans(matrix.long):
        lines = matrix.lines(start, count)
        part = lines if directions is None else lines @ directions.mT
        add_upper(gram, part, part)
    return gram
