"""Exact selection without sorting: which score has a rank, and who of its equals is kept.

A small sample brackets the score between two pivots. One pass over the tensor counts the scores
above the upper one, equal to either, and collects the few between; a selection among those
finishes. Where the sample misled, the pass is made again between better pivots, so that the result
never depends on it. Scores are not negative; of equal ones the lower index ranks higher.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.select_tile import EVERYTHING

Scores = NDArray[Any]
Counts = NDArray[np.int64]

ABOVE, AT_UPPER, BETWEEN, AT_LOWER, ALIVE = range(5)
"""Columns of a block's counts, as `kernels.select` fills them."""

SAMPLE_FROM = 4 * BLOCK
"""A smaller tensor is collected whole."""
_DEVIATIONS = 5.0
"""Standard deviations between the sample's estimate and a pivot. Runs of neighbours are less
independent than single draws, hence more than the usual three or four."""
_SAMPLED_TRIES = 3
"""Passes with pivots from samples; then the range is cut by its bits, which cannot fail."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Elements above `limit` are in; of those equal to it `ties` (blocks,) int32 in each block.

    `BLOCK` ties mean all of them.
    """

    limit: float
    ties: NDArray[np.int32]


class Selection:
    """The `rank` highest of n scores, or that `share` of those that are not zero.

    Tiles are added by any thread in any order; `solve` is for one of them when all are there.
    """

    def __init__(self, n: int, *, rank: int = 0, share: float | None = None, wide: bool) -> None:
        """Begin with pivots that take everything in."""
        self.n = n
        self._rank, self._share = rank, share
        self._real: Any = np.float64 if wide else np.float32
        self._bits: Any = np.int64 if wide else np.int32
        self.pivots = EVERYTHING
        self._inside = (-1, int(self._bits_of(math.inf)))  # open interval, as bits
        self._tries = 0
        self._n_blocks = -(-n // BLOCK)
        self._parts: dict[int, tuple[Counts, Scores, bool]] = {}
        self._lock = threading.Lock()
        self.cut = Cut(math.inf, np.zeros(0, np.int32))

    def sampled(self, scores: Scores) -> None:
        """Choose pivots from a sample of all scores."""
        wanted = self._wanted(int(np.count_nonzero(scores)), len(scores))
        self._aim(np.sort(scores)[::-1], wanted)

    def add(self, start: int, counts: Counts, scores: Scores, whole: bool) -> None:
        """Take what the tile from `start` on has: counts (blocks, ...), scores, if they are all."""
        with self._lock:
            self._parts[start] = (counts, scores, whole)

    def solve(self) -> bool:
        """Find `cut`; return False where another pass with new `pivots` is needed."""
        parts = [self._parts[start] for start in sorted(self._parts)]
        counts = np.concatenate([c for c, _, _ in parts])
        assert len(counts) == self._n_blocks, "tiles must be whole blocks"  # noqa: S101
        scores = np.concatenate([s for _, s, _ in parts])
        whole = all(w for _, _, w in parts)
        self._parts.clear()
        totals = counts.sum(axis=0)
        rank = self._wanted(int(totals[ALIVE]), self.n)
        if not 0 < rank < self.n:
            limit, ties = (math.inf, 0) if rank <= 0 else (-1.0, BLOCK)
            self.cut = Cut(limit, np.full(self._n_blocks, ties, np.int32))
            return True
        lower, upper = self.pivots
        left = rank - int(totals[ABOVE])
        if left <= 0:
            return self._again(self._bits_of(upper), self._inside[1], scores[:0], 0)
        if left <= totals[AT_UPPER]:
            return self._done(upper, left, counts[:, AT_UPPER])
        left -= int(totals[AT_UPPER])
        if left <= totals[BETWEEN]:
            if not whole:
                low, high = self._bits_of(lower), self._bits_of(upper)
                wanted = int(left / int(totals[BETWEEN]) * len(scores))
                return self._again(low, high, scores, wanted)
            limit = float(np.partition(scores, len(scores) - left)[len(scores) - left])
            left -= int(np.count_nonzero(scores > limit))
            return self._done(limit, left, _ties(scores == limit, counts[:, BETWEEN]))
        left -= int(totals[BETWEEN])
        if left <= totals[AT_LOWER]:
            return self._done(lower, left, counts[:, AT_LOWER])
        return self._again(self._inside[0], self._bits_of(lower), scores[:0], 0)

    def _wanted(self, alive: int, n: int) -> int:
        """Return the rank among n scores of which `alive` are not zero."""
        if self._share is not None:
            return int(alive * self._share)
        return self._rank * n // self.n

    def _done(self, limit: float, left: int, ties: NDArray[np.int64]) -> bool:
        before = np.cumsum(ties) - ties
        kept = np.clip(left - before, 0, ties)
        self.cut = Cut(limit, np.where(kept == ties, BLOCK, kept).astype(np.int32))
        return True

    def _again(self, low: int, high: int, scores: Scores, wanted: int) -> bool:
        """Look again in the open interval of bits from `low` to `high`."""
        if high - low < 2:
            return self._done(math.inf, 0, np.zeros(self._n_blocks, np.int64))
        self._inside = (low, high)
        self._tries += 1
        if len(scores) and self._tries < _SAMPLED_TRIES:
            self._aim(np.sort(scores)[::-1], wanted)
        else:
            third = max(1, (high - low) // 3)
            self.pivots = (self._number(low + third), self._number(max(low + third, high - third)))
        return False

    def _aim(self, falling: Scores, wanted: int) -> None:
        """Set the pivots around the rank `wanted` of a sample, which is sorted downwards."""
        n = len(falling)
        share = wanted / n if n else 0.0
        margin = math.ceil(_DEVIATIONS * math.sqrt(share * (1.0 - share) * n)) + 8
        low, high = self._inside
        above, below = wanted - margin, wanted + margin
        upper = self._bits_of(falling[above]) if above >= 0 else high
        lower = self._bits_of(falling[below]) if below < n else low
        self.pivots = (self._number(max(low, lower)), self._number(min(high, upper)))

    def _bits_of(self, number: float) -> int:
        return -1 if number < 0 else int(np.asarray(number, self._real).view(self._bits))

    def _number(self, bits: int) -> float:
        return -1.0 if bits < 0 else float(np.asarray(bits, self._bits).view(self._real))


def _ties(is_tie: NDArray[np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many ties each block has; `lengths` says how many of the flags are its own."""
    ends = np.cumsum(lengths)
    counted = np.concatenate([[0], np.cumsum(is_tie)])
    found: Counts = counted[ends] - counted[ends - lengths]
    return found
