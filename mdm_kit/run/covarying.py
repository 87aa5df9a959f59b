"""The course of a tensor whose linear maps are merged from sums of changes and covariances."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import numpy as np
import torch

from mdm_kit.errors import IntegrityError, MisfitError, NotFiniteError
from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.maths.covariance import Sums as MapSums
from mdm_kit.maths.covariance import add, grids_of, solve
from mdm_kit.maths.covariance_costs import ROWS
from mdm_kit.maths.grid import I64s, n_triangle
from mdm_kit.maths.matrix import Matrix
from mdm_kit.maths.orthogonal import fsum
from mdm_kit.methods.rules import Covarying
from mdm_kit.planner.nodes import Read, Write
from mdm_kit.planner.sums import CHANGES, COVARIANCES, PRODUCTS
from mdm_kit.run.course import Borrow
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.lines import largest_magnitude, view_of
from mdm_kit.run.map_course import SummedMapCourse
from mdm_kit.run.sums import Arrays
from mdm_kit.words import shown


class CovaryingCourse(SummedMapCourse):
    """Sums A, P and C of each map, and then M, which is what the tensor's `total` holds."""

    def __init__(self, write: Write, rule: Covarying, arrays: Arrays) -> None:
        """Begin with sums of zeros, or those the node starts from."""
        super().__init__(write, rule, rule.factor)
        self.arrays = arrays
        self.rule = rule
        self._merged = torch.empty(
            write.n_elements, dtype=torch.float64 if self.wide else torch.float32
        )
        self._energies = np.zeros((len(rule.matrices), len(self.models)))
        ends = list(accumulate((n_triangle(m.n_in) for m in rule.matrices), initial=0))
        self._triangles = [slice(*pair) for pair in pairwise(ends)]

    @property
    def starts(self) -> tuple[Read, ...]:
        """A and P of an earlier merge; its covariances do not lie as the tensor does."""
        return self.apply.start.reads[:2] if self.apply.start else ()

    def merge_models(self, index: int, borrow: Borrow) -> None:
        """Take every model into a map's sums, or out of them, and solve for M."""
        matrix, start = self.matrices[index], self.apply.start
        first, last = matrix.span
        weights = start.weights if start else self.rule.weights
        sign = -1 if start and start.takes_out else 1
        with borrow.of((self.base,), first, last - first) as base:
            largest = largest_magnitude(self.lines_of(index, borrow, base, wide=self.wide), ROWS)
            sums = self._sums(index, largest, borrow)
            for i, read in enumerate(self.models):
                try:
                    with self.change(read, base, borrow, index) as change:
                        added = add(
                            change, weights[i], sums, sign=sign, clock=borrow.profile.during
                        )
                except NotFiniteError:
                    self.refuse(read, borrow, index)
                except MisfitError as fault:
                    raise self._named(fault, read) from None
                self._energies[index, i] = added.energy
        self._put_back(sums, matrix)
        self._solve(sums, matrix, borrow)

    def _sums(self, index: int, largest: float, borrow: Borrow) -> MapSums:
        """Return a map's sums as the arrays hold them, filled with what an earlier merge has."""
        matrix = self.matrices[index]
        if not math.isfinite(largest):
            self.refuse(self.base, borrow, index)
        changes, products = (self._held(role, matrix) for role in (CHANGES, PRODUCTS))
        triangle: I64s = self.arrays[COVARIANCES][self._triangles[index]]  # type: ignore[assignment]
        start = self.apply.start
        if start is None:
            for held in (changes, products, triangle):
                held[...] = 0
        else:
            first, last = matrix.span
            for read, held in zip(start.reads, (changes, products), strict=False):
                with borrow.of((read,), first, last - first) as kept:
                    held[...] = _integers(kept, matrix, first)
            part = self._triangles[index]
            with borrow.of((start.reads[2],), part.start, part.stop - part.start) as kept:
                triangle[...] = kept.array(0).view(np.int64)
        return MapSums(changes, products, triangle, *grids_of(largest))

    def _held(self, role: str, matrix: Matrix) -> I64s:
        """Return a map of an array of sums, (n_out, n_in): a view, or a copy to be put back."""
        view = view_of(torch.from_numpy(self.arrays[role]), matrix)
        return view.reshape(matrix.n_out, matrix.n_in).numpy()

    def _put_back(self, sums: MapSums, matrix: Matrix) -> None:
        """Put sums back into arrays whose maps have more axes than two."""
        for role, held in ((CHANGES, sums.deltas), (PRODUCTS, sums.products)):
            view = view_of(torch.from_numpy(self.arrays[role]), matrix)
            if view.dim() > 2:
                view.copy_(torch.from_numpy(held).reshape(view.shape))

    def _solve(self, sums: MapSums, matrix: Matrix, borrow: Borrow) -> None:
        """Fill a map of M."""
        view = view_of(self._merged, matrix)
        held = view if view.dim() == 2 else torch.empty(matrix.n_out, matrix.n_in).to(view.dtype)
        try:
            for part in solve(sums, self.rule.ridge, clock=borrow.profile.during):
                held[part.start : part.start + len(part.rows)] = part.rows
        except IntegrityError as fault:
            raise IntegrityError(f"{shown(self.write.name)}: {fault}") from None
        if held is not view:
            view.copy_(held.reshape(view.shape))

    def _named(self, fault: MisfitError, read: Read) -> MisfitError:
        return MisfitError(f"{shown(self.write.name)}, {shown(read.info.source)}: {fault}")

    def settled(self) -> SummedTensor:
        """Return how the tensor was summed."""
        self.total = self._merged.numpy()
        self.arrays = {}  # what is kept of them lies in a file
        leaving = self.apply.start is not None and self.apply.start.takes_out
        energies = [fsum(column) for column in self._energies.T.tolist()]
        return SummedTensor([] if leaving else energies, counts=self.apply.counts)


def _integers(kept: Inputs, matrix: Matrix, first: int) -> I64s:
    """Return a map of kept sums, (n_out, n_in) int64."""
    flat = torch.from_numpy(kept.array(0).view(np.int64))
    return view_of(flat, matrix, first).reshape(matrix.n_out, matrix.n_in).numpy()
