"""A tensor's inner products while its tiles are measured, by any worker in any order."""

from __future__ import annotations

import math
import operator
import threading
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.low_rank import Factors
from mdm_kit.maths.orthogonal import Gram, fsum
from mdm_kit.planner.nodes import Write
from mdm_kit.run.countdown import Countdown
from mdm_kit.run.executor import Starved
from mdm_kit.words import shown


class Tally:
    """A float64 for each block and pair of deltas; `exact` asks for compensated sums.

    The products that the first models have among one another may be `known`. Where deltas are
    products of `factors`, these are kept for whoever merges them.
    """

    def __init__(self, write: Write, *, exact: bool, known: Gram | None = None) -> None:
        """Make room for the products of a tensor that a method measures."""
        apply = write.apply()
        k = len(apply.inputs) if apply else 0
        self.write = write
        self.exact = exact
        self.settling = threading.Lock()
        self._known = known or Gram(())
        pairs = k * (k + 1) // 2 - len(self._known.triangle)
        self.is_factored = apply is not None and apply.is_factored
        self.factors: list[Factors] | None = None
        n_blocks = 1 if self.is_factored else -(-write.n_elements // BLOCK)
        self._products = np.empty((n_blocks, pairs))
        self.countdown = Countdown(write.n_elements)

    @property
    def n_known(self) -> int:
        """How many of the first models need no product among one another."""
        return self._known.n

    def rows(self, start: int, count: int) -> NDArray[np.float64]:
        """Return where the products of a tile go: (blocks, pairs) float64."""
        return self._products[start // BLOCK : -(-(start + count) // BLOCK)]

    def gram(self) -> Gram:
        """Wait for the last tile and join the products of the blocks, left to right.

        Raises `NotFiniteError` where a product is not finite: then a model holds a NaN or an
        infinity, or numbers whose squares leave float64.
        """
        if not self.countdown.wait():
            raise Starved(f"{self.write.name} was not measured to its end")
        # Not `sum`: from Python 3.12 on it compensates, and its bits are others.
        join = fsum if self.exact else partial(reduce, operator.add)
        finite = bool(np.isfinite(self._products).all())
        columns = self._products.T.tolist()
        triangle = tuple(join(c) if c else 0.0 for c in columns) if finite else ()
        if not all(map(math.isfinite, triangle)) or not finite:
            sources = ", ".join(shown(r.info.source) for r in self.write.reads())
            raise NotFiniteError(
                f"{shown(self.write.name)}: the inner products of the changes are not finite, "
                f"made from {sources}; look for NaN or infinity in these models"
            )
        return Gram(self._known.triangle + triangle)
