"""Courses: how often a tensor is read before it is written, and what each reading is for.

A rule that needs numbers of the whole tensor first (a rank, a sum, a divergence) is a course of
stages, each one reading of the tensor in tiles that any worker does in any order. Before a stage's
first tile the stages before it are finished and settled, once, by whichever worker comes first.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from mdm_kit.planner.nodes import Read, Write, inputs_of
from mdm_kit.run.countdown import Countdown
from mdm_kit.run.executor import Bytes, Starved
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.profile import Profile


class Borrow(Protocol):
    """Lends the inputs of some of a tensor's elements."""

    def __call__(self, start: int, count: int) -> Inputs:
        """Return the inputs of `count` elements from `start` on, for use in a `with`."""

    @property
    def profile(self) -> Profile:
        """Where the time of reading goes."""

    def of(self, reads: Sequence[Read], start: int, count: int) -> Inputs:
        """Return elements of some of the inputs alone, for use in a `with`."""

    def unread(self, reads: Sequence[Read], start: int, count: int) -> Inputs:
        """Return what `of` does, not borrowed yet."""

    def ahead(self, parts: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield (start, count) of parts that will be borrowed in turn, having announced them."""


class Stage(ABC):
    """One reading of a tensor."""

    def __init__(self, n: int) -> None:
        """Expect n elements; a stage that is settled without a reading of its own has none."""
        self.n = n
        self.countdown = Countdown(n)

    def tile(self, size: int) -> int:
        """Return how many elements a tile has, of about `size`."""
        return size

    @abstractmethod
    def read(self, inputs: Inputs, start: int) -> None:
        """Look at the elements of a tile."""

    @abstractmethod
    def settle(self, borrow: Borrow) -> None:
        """Draw the conclusions when all tiles are read; `borrow` is for what must be read again."""


class Course(ABC):
    """The stages of one tensor, and how its tiles are written after them."""

    def __init__(self, write: Write, stages: list[Stage]) -> None:
        """Begin before the first stage."""
        self.write = write
        self.stages = stages
        self._settled = 0
        self._settling = threading.Lock()
        self._failure: BaseException | None = None

    def await_sums(self) -> None:  # noqa: B027 -- most have none
        """Return when what must be summed of the tensor before its first tile is."""

    def settle(self, upto: int, borrow: Borrow) -> None:
        """Finish the stages before `upto`.

        Nobody waits for a stage while holding the lock: who is to read its last tile may need it.
        A stage that cannot be settled is tried once, and its error is everybody's.
        """
        while (at := self._settled) < upto:
            if not self.stages[at].countdown.wait():
                raise Starved("a tile of this stage failed")
            with self._settling:
                if self._failure is not None:
                    raise self._failure
                if self._settled == at:
                    self._settle(self.stages[at], borrow)

    def _settle(self, stage: Stage, borrow: Borrow) -> None:
        try:
            stage.settle(borrow)
        except BaseException as failure:
            self._failure = failure
            raise
        self._settled += 1

    @property
    def fill_reads(self) -> Sequence[Read]:
        """The source tensors whose elements `fill` is given: all of them, the base first."""
        return inputs_of(self.write)[0]

    @property
    def whole_reads(self) -> Sequence[Read]:
        """The source tensors that are read whole before the first tile; most have none."""
        return ()

    @abstractmethod
    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements, from `start` on, rounded to `dtype`; return if all is finite.

        Every stage is settled. Arithmetic is float32, float64 if `wide`.
        """


def tiles(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, count) of tiles of `size` elements."""
    for start in range(0, n, size):
        yield start, min(size, n - start)
