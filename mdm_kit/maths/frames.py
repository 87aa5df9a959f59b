"""Singular triplets of several matrices side by side, joined into one matrix by whitened bases.

M = polar(U) diag(s) polar(V)ᵀ, with U = [U_1 .. U_N] and V the same and polar(X) = X (XᵀX)^-½: the
orthonormal basis nearest to the vectors that different models brought. Only a Gram matrix of as
many vectors as there are is solved for each side. Directions in which vectors repeat one another
are left out, as the inverse root has none there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mdm_kit.maths.changes import Columns, Lines
from mdm_kit.maths.singular import Singular, singular_of, write_left
from mdm_kit.maths.strips import spans


class Frame:
    """Triplets of matrices of one shape, seen along their longer side; `turned` if that is rows.

    `room` (long, short or more) float64 takes the vectors of the longer side, and in the end M.
    """

    def __init__(self, room: Tensor, short: int, *, turned: bool) -> None:
        """Begin with no triplet."""
        self._room, self._short, self._turned = room, short, turned
        self._values: list[Tensor] = []
        self._vectors: list[Tensor] = []
        self._n = 0

    def add(self, matrix: Lines, found: Singular) -> None:
        """Take triplets of a matrix in, of which `found` are values and shorter vectors."""
        end = self._n + len(found.values)
        write_left(matrix, found, self._room[:, self._n : end])
        self._n = end
        self._values.append(found.values)
        self._vectors.append(found.vectors)

    @property
    def left(self) -> Tensor:
        """The vectors of the longer side, (long, k)."""
        return self._room[:, : self._n]

    def joined(self, spectrum: Callable[[Tensor], Tensor]) -> Tensor:
        """Return M (out, in) where `spectrum` says of the values (k,) what s is."""
        out = self._room[:, : self._short]
        if not self._n:
            out.zero_()
        else:
            values, vectors = torch.cat(self._values), torch.cat(self._vectors)
            right = inverse_root(Columns(vectors.mT)) @ vectors
            core = inverse_root(Columns(self.left)) @ (spectrum(values)[:, None] * right)
            for start, count in spans(len(out)):
                out[start : start + count] = self.left[start : start + count] @ core
        return out.mT if self._turned else out


def inverse_root(vectors: Lines) -> Tensor:
    """Return (XᵀX)^-½ (k, k), the pseudo-inverse where columns of X (rows, k) repeat others."""
    found = singular_of(vectors)
    return (found.vectors.mT / found.values) @ found.vectors
