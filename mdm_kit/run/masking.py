"""The course of a tensor whose models are kept in part: ranks, draws, sums, then the merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.layouts import IMPORTANCE, MAGNITUDE, SPREAD
from mdm_kit.maths.masked import Combining, F64s, Mask, mask_tile, sum_tile
from mdm_kit.maths.select_tile import Scoring
from mdm_kit.maths.selection import Cut, Selection
from mdm_kit.maths.vectors import divergences, draw_by_rank
from mdm_kit.methods.rules import (
    Drawn,
    DrawnByRank,
    Everything,
    Masking,
    MostSpread,
    Outstanding,
    Ranked,
    Vectors,
)
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.ruling import whole_vectors
from mdm_kit.run.course import Borrow, Course, Stage
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.selecting import Selecting
from mdm_kit.words import shown

SMALLEST_SIZE = 1e-7
"""Sums of magnitudes below it are not stretched, as in mergekit."""
SMALLEST_ENERGY = 1e-6
"""Energies whose sum is smaller count alike; also the least divisor of a mean by energy."""
SMALLEST_DIVISOR = 1e-8
"""Weights whose sum is smaller are not normalised, as in mergekit."""


class MaskingCourse(Course):
    """Finds each model's mask, then what its kept part is multiplied by."""

    def __init__(self, write: Write, rule: Masking, keys: Sequence[int], *, wide: bool) -> None:
        """Plan the stages for models whose draws have these keys."""
        self.rule = rule
        self.wide = wide
        self.n = write.n_elements
        self.k = len(keys)
        self.masks = [Mask.nothing()] * self.k
        self.scoring = Scoring(MAGNITUDE)
        self.combining: Combining | None = None
        super().__init__(write, self._stages(keys))
        if rule.weights is not None and not rule.rescale:
            self.combining = weighted(rule, np.array(rule.weights), np.ones(self.k))

    def _stages(self, keys: Sequence[int]) -> list[Stage]:
        rule, first = self.rule, self.rule.keeps[0]
        keeps = rule.keeps if len(rule.keeps) == self.k else rule.keeps * self.k
        stages: list[Stage] = []
        for i, keep in enumerate(keeps):
            if isinstance(keep, Everything):
                self.masks[i] = Mask.everything()
            elif isinstance(keep, Drawn):
                self.masks[i] = Mask.drawn(keep.share, keys[i])
        by_rank = {i: keep for i, keep in enumerate(keeps) if isinstance(keep, DrawnByRank)}
        if by_rank:
            stages.append(_RankedDraws(self, by_rank, keys))
        ranked = {i: keep for i, keep in enumerate(keeps) if isinstance(keep, Ranked)}
        if ranked:
            stages += self._ranked(ranked)
        elif isinstance(first, MostSpread):
            stages += self._spread(first)
        elif isinstance(first, Outstanding):
            stages += [_Divergences(self, first.vectors), *self._outstanding()]
        if rule.rescale or rule.weights is None:
            stages.append(_Sums(self))
        return stages

    def _ranked(self, keeps: dict[int, Ranked]) -> list[Stage]:
        kept = {i: self._selection(rank=keep.last) for i, keep in keeps.items()}
        dropped = {i: self._selection(rank=k.first) for i, k in keeps.items() if k.first}

        def conclude() -> None:
            for i, selection in kept.items():
                without = dropped[i].cut if i in dropped else None
                self.masks[i] = Mask.ranked(selection.cut, without)

        return self._selecting([*kept.items(), *dropped.items()], conclude)

    def _spread(self, keep: MostSpread) -> list[Stage]:
        self.scoring = Scoring(SPREAD)
        selection = self._selection(share=keep.share)

        def conclude() -> None:
            self.masks = [Mask.ranked(selection.cut)] * self.k

        return self._selecting([(0, selection)], conclude)

    def _outstanding(self) -> list[Stage]:
        quartiles = [
            self._selection(rank=self.n - int(q * (self.n - 1))) for q in (0.25, 0.5, 0.75)
        ]

        def conclude() -> None:
            low, middle, high = (s.cut.limit for s in quartiles)
            threshold = middle + 1.5 * (high - low)
            all_ties = np.full(-(-self.n // BLOCK), BLOCK, np.int32)
            self.masks = [Mask.ranked(Cut(threshold, all_ties))]

        return self._selecting([(0, s) for s in quartiles], conclude)

    def _selection(self, *, rank: int = 0, share: float | None = None) -> Selection:
        return Selection(self.n, rank=rank, share=share, wide=self.wide)

    def _selecting(
        self, chosen: Sequence[tuple[int, Selection]], conclude: Callable[[], None]
    ) -> list[Stage]:
        return Selecting(self.n, chosen, lambda: self.scoring, conclude, wide=self.wide).stages()

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        assert self.combining is not None  # noqa: S101 -- the stages are settled
        return mask_tile(
            inputs.stored(start, wide=wide),
            scoring=self.scoring,
            masks=self.masks,
            combining=self.combining,
            out=out.ctypes.data,
            out_dtype=dtype,
        )


def weighted(rule: Masking, weights: F64s, stretch: F64s) -> Combining:
    """Return the sum a rule asks for, with these weights and stretched parts."""
    factors = np.stack([weights * stretch, weights * stretch, weights])
    if rule.elect or not rule.normalize:
        return Combining(factors, rule.elect, rule.normalize, rule.scale)
    total = math.fsum(weights)
    divisor = total if abs(total) >= SMALLEST_DIVISOR else 1.0
    return Combining(factors, elect=False, normalize=False, scale=rule.scale / divisor)


def by_energy(rule: Masking, energies: F64s) -> Combining:
    """Return the mean by energy, with signs elected by the plain sum."""
    total = math.fsum(energies)
    even = np.full(len(energies), 1.0 / len(energies))
    shares = energies / total if total >= SMALLEST_ENERGY else even
    factors = np.stack([np.ones(len(energies)), shares, shares])
    return Combining(factors, rule.elect, rule.normalize, rule.scale, SMALLEST_ENERGY)


class _Sums(Stage):
    """Sums what is kept, for stretching it and for weights by energy."""

    def __init__(self, course: MaskingCourse) -> None:
        super().__init__(course.n)
        self._course = course
        self._sums = np.zeros((-(-course.n // BLOCK), course.k, 3))
        self._finite = True

    def read(self, inputs: Inputs, start: int) -> None:
        course, first = self._course, start // BLOCK
        finite = sum_tile(
            inputs.stored(start, wide=course.wide),
            scoring=course.scoring,
            masks=course.masks,
            sums=self._sums[first : first + -(-inputs.count // BLOCK)],
        )
        if not finite:
            self._finite = False

    def settle(self, borrow: Borrow) -> None:
        course, rule = self._course, self._course.rule
        joined = np.cumsum(self._sums, axis=0)[-1]  # one after another, left to right
        used = joined[:, 2:] if rule.weights is None else joined[:, :2]
        if not self._finite:
            joined = np.zeros_like(joined)  # the writing finds what is not finite, and names it
        elif not np.isfinite(used).all():
            raise NotFiniteError(
                f"{shown(course.write.name)}: the sums over this tensor's changes leave float64's "
                "range; look for huge numbers in the models"
            )
        if rule.weights is None:
            course.combining = by_energy(rule, joined[:, 2] / course.n)
            return
        before, after = joined[:, 0], joined[:, 1]
        live = (before >= SMALLEST_SIZE) & (after >= SMALLEST_SIZE)
        stretch = np.where(live, before / np.where(live, after, 1.0), 1.0)
        course.combining = weighted(rule, np.array(rule.weights), stretch)


class _RankedDraws(Stage):
    """Draws which elements of each model are kept, by their rank in their vector."""

    def __init__(
        self, course: MaskingCourse, keeps: dict[int, DrawnByRank], keys: Sequence[int]
    ) -> None:
        super().__init__(course.n)
        self._course, self._keeps, self._keys = course, keeps, keys
        self._vectors = next(iter(keeps.values())).vectors
        self._bits = {i: np.zeros(-(-course.n // 8), np.uint8) for i in keeps}

    def tile(self, size: int) -> int:
        return whole_vectors(self._vectors, size)

    def read(self, inputs: Inputs, start: int) -> None:
        vectors = self._vectors
        outer = inputs.count // (vectors.length * vectors.inner)
        tile = inputs.stored(start, wide=self._course.wide)
        for i, keep in self._keeps.items():
            draw_by_rank(
                tile.of_model(i),
                shape=(outer, vectors.length, vectors.inner),
                key=self._keys[i],
                chances=(keep.low, keep.high),
                bits=self._bits[i],
            )

    def settle(self, borrow: Borrow) -> None:
        for i, bits in self._bits.items():
            self._course.masks[i] = Mask.given(bits)


class _Divergences(Stage):
    """Measures how far each of the model's vectors is from the base's."""

    def __init__(self, course: MaskingCourse, vectors: Vectors) -> None:
        super().__init__(course.n)
        self._course, self._vectors = course, vectors
        self._found = np.zeros(vectors.n)

    def tile(self, size: int) -> int:
        return whole_vectors(self._vectors, size)

    def read(self, inputs: Inputs, start: int) -> None:
        length = self._vectors.length
        out = self._found[start // length : (start + inputs.count) // length]
        divergences(inputs.stored(start, wide=self._course.wide), length=length, out=out)

    def settle(self, borrow: Borrow) -> None:
        self._course.scoring = Scoring(IMPORTANCE, self._found, self._vectors.length)
