"""Stored numbers as the lines of a linear map: what a model changed, what a base is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mdm_kit.maths.fold import fold
from mdm_kit.maths.matrix import Matrix
from mdm_kit.run.profile import Profile
from mdm_kit.words import DTYPES


class Numbers:
    """A weighted sum of tensors' elements, from the tensors' element `start` on, never stored.

    A model minus its base has the weights 1 and -1; the difference is formed once, in float32, or
    in float64 if `wide`.
    """

    def __init__(
        self,
        addresses: Sequence[int],
        dtypes: Sequence[str],
        weights: Sequence[float],
        start: int,
        profile: Profile,
        *,
        wide: bool,
    ) -> None:
        """Take where each tensor's element `start` lies, in which dtype, and its weight."""
        self._profile = profile
        self.dtype = torch.float64 if wide else torch.float32
        self._addresses = addresses
        self._dtypes = dtypes
        self._weights = weights
        self._start = start

    def flat(self, start: int, count: int) -> Tensor:
        """Return `count` elements from the tensor's element `start` on, in memory of their own."""
        out = torch.empty(count, dtype=self.dtype)
        wide = self.dtype is torch.float64
        skipped = start - self._start
        addresses = [
            address + skipped * DTYPES[d].bits // 8
            for address, d in zip(self._addresses, self._dtypes, strict=True)
        ]
        with self._profile.during("read"):
            fold(
                addresses,
                self._dtypes,
                self._weights,
                base=False,
                wide=wide,
                n=count,
                out=out.data_ptr(),
                out_dtype="F64" if wide else "F32",
            )
        return out


class MapLines:
    """The rows of a linear map, output features first, out of a tensor's numbers."""

    def __init__(self, numbers: Numbers, matrix: Matrix) -> None:
        """Read nothing yet; a map whose rows do not follow each other is read whole at first."""
        self.rows, self.columns = matrix.n_out, matrix.n_in
        self._numbers = numbers
        self._matrix = matrix
        self._whole: Tensor | None = None

    def lines(self, start: int, count: int) -> Tensor:
        """Return rows (count, columns) from row `start` on."""
        if self._matrix.is_plain:
            at = self._matrix.start + start * self.columns
            return self._numbers.flat(at, count * self.columns).view(count, self.columns)
        return self.whole()[start : start + count]

    def whole(self) -> Tensor:
        """Return all rows (rows, columns)."""
        if self._matrix.is_plain:
            return self.lines(0, self.rows)
        if self._whole is None:
            first, last = self._matrix.span
            held = self._numbers.flat(first, last - first)
            self._whole = view_of(held, self._matrix, first).reshape(self.rows, self.columns)
        return self._whole


def view_of(flat: Tensor, matrix: Matrix, origin: int = 0) -> Tensor:
    """Return a map's axes, output features first, as a view of flat elements from `origin` on.

    (n_out, n_in) where both have one axis.
    """
    axes = (*matrix.out, *matrix.inner)
    return flat.as_strided(
        [count for count, _ in axes], [step for _, step in axes], matrix.start - origin
    )


def root_mean_square(lines: MapLines, at_once: int) -> float:
    """Return the root of the mean square of a map's numbers, `at_once` rows at a time."""
    squares = [float(part.double().square().sum()) for part in parts_of(lines, at_once)]
    return math.sqrt(math.fsum(squares) / max(1, lines.rows * lines.columns))


def largest_magnitude(lines: MapLines, at_once: int) -> float:
    """Return the largest magnitude of a map's numbers; NaN if one is NaN."""
    return max((float(part.abs().max()) for part in parts_of(lines, at_once)), default=0.0)


def parts_of(lines: MapLines, at_once: int) -> Iterator[Tensor]:
    """Yield a map's rows, `at_once` of them at a time."""
    for row in range(0, lines.rows, at_once):
        yield lines.lines(row, min(at_once, lines.rows - row))
