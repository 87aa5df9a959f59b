"""The course of a tensor whose linear maps are merged from all models' changes at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NoReturn

import torch

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.rounding import noise_edge
from mdm_kit.maths.spectral_costs import LINES
from mdm_kit.methods.rules import Joining
from mdm_kit.planner.nodes import Read, Write
from mdm_kit.run.course import Borrow
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.lines import MapLines, root_mean_square, view_of
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.not_finite import refuse_not_finite


class JoiningCourse(MapCourse):
    """Joins the models' changes to each map; the tensor's `total` holds what comes of it."""

    def __init__(self, write: Write, rule: Joining) -> None:
        """Make room for the merged change."""
        super().__init__(write, rule, rule.factor)
        self.rule = rule
        real = torch.float64 if self.wide else torch.float32
        self._merged = torch.empty(write.n_elements, dtype=real)

    @property
    def in_turn(self) -> tuple[Read, ...]:
        """The base, and every model as often as the rule goes through them."""
        return (self.base, *self.models * self.rule.passes)

    def merge_models(self, index: int, borrow: Borrow) -> None:
        """Join the models' changes to a map."""
        matrix = self.matrices[index]
        first, last = matrix.span
        with borrow.of((self.base,), first, last - first) as base:
            try:
                merged = self.rule.join(_Changes(self, base, borrow, index))
            except NotFiniteError:
                self._refuse(index, borrow)
        if not math.isfinite(float(merged.sum())):
            self._refuse(index, borrow)
        view = view_of(self._merged, matrix)
        view.copy_(merged.reshape(view.shape))

    def _refuse(self, index: int, borrow: Borrow) -> NoReturn:
        """Raise `NotFiniteError` naming which of base and models is not finite in a map."""
        first, last = self.matrices[index].span
        with borrow.of((self.base, *self.models), first, last - first) as inputs:
            refuse_not_finite(self.write, inputs, first)

    def settle_maps(self) -> None:
        """Hand the merged change out."""
        self.total = self._merged.numpy()


class _Changes:
    """The models' changes to a map; each is borrowed until the next one is asked for."""

    def __init__(self, course: JoiningCourse, base: Inputs, borrow: Borrow, index: int) -> None:
        self._course, self._base, self._borrow, self._index = course, base, borrow, index
        self._edges: list[float] | None = None

    @property
    def edges(self) -> list[float]:
        """Noise edges of the changes, by the size of the base's numbers; found when asked for."""
        if self._edges is None:
            course, matrix = self._course, self._course.matrices[self._index]
            lines = course.lines_of(self._index, self._borrow, self._base, wide=False)
            size = root_mean_square(lines, LINES)
            self._edges = [
                noise_edge(read.info.dtype, size, matrix.n_out, matrix.n_in)
                for read in course.models
            ]
        return self._edges

    def __len__(self) -> int:
        return len(self._course.models)

    def __iter__(self) -> Iterator[MapLines]:
        for read in self._course.models:
            with self._course.change(read, self._base, self._borrow, self._index) as change:
                yield change
