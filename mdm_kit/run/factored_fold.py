"""The course of a tensor that is the base plus a weighted sum of adapters' changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from mdm_kit.maths.low_rank import Factors, weighted_sum
from mdm_kit.maths.low_rank_rows import add_product
from mdm_kit.planner.nodes import Fold, Read, Write
from mdm_kit.run.change_course import add_to_base
from mdm_kit.run.course import Borrow, Course
from mdm_kit.run.executor import Bytes
from mdm_kit.run.factors import factors_of
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.weights import Weights


class FactoredFold(Course):
    """Reads the base alone, tile by tile; all changes together are one product of thin factors."""

    def __init__(self, write: Write) -> None:
        """Plan no stage."""
        super().__init__(write, [])
        root = write.root
        assert isinstance(root, Fold)  # noqa: S101 -- only changes have factors
        self._base = root.base
        self._apply = root.delta
        self._lock = threading.Lock()
        self._merged: Factors | None = None
        self._wide = False

    @property
    def fill_reads(self) -> Sequence[Read]:
        """The base: the changes are in memory."""
        return (self._base,)

    @property
    def whole_reads(self) -> Sequence[Read]:
        """The factors."""
        return self._apply.reads

    def weigh(self, weights: Weights, borrow: Borrow, factors: list[Factors] | None = None) -> None:
        """Put the factors together, and read them if they are not; later calls change nothing."""
        with self._lock:
            if self._merged is not None:
                return
            factors = factors or factors_of(self._apply.inputs, self.write.shape, borrow)
            self._wide = weights.wide
            self._merged = weighted_sum(factors, weights.values).to(
                torch.float64 if weights.wide else torch.float32
            )

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        merged = self._merged
        assert merged is not None  # noqa: S101 -- weighed before the first tile
        return add_factors(inputs, merged, start, out, dtype, wide=wide or self._wide)


def add_factors(
    inputs: Inputs,
    merged: Factors,
    start: int,
    out: Bytes,
    dtype: str,
    *,
    wide: bool,
    factor: float = 1.0,
) -> bool:
    """Write the first input plus `factor` times elements of a product, from `start` on.

    Returns whether every result is finite.
    """
    part = torch.zeros(inputs.count, dtype=merged.left.dtype)
    if merged.rank:
        add_product(part, start, merged.left, merged.right)
    change: np.ndarray[tuple[int], np.dtype[np.floating]] = part.numpy()
    return add_to_base(inputs, change, factor, out, dtype, wide=wide)
