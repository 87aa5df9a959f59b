"""The course of a tensor whose linear maps are merged before it is written, each map by itself.

A map is one piece of work for one worker: its base is held, and one model after the other is read.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.planner.maps import MapRule, map_nbytes
from mdm_kit.planner.nodes import Read, Write
from mdm_kit.planner.sums import n_models
from mdm_kit.run.change_course import ChangeCourse
from mdm_kit.run.countdown import Countdown
from mdm_kit.run.course import Borrow
from mdm_kit.run.executor import Starved
from mdm_kit.run.freed import give_back_large_blocks
from mdm_kit.run.gate import Gate
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.lines import MapLines, Numbers
from mdm_kit.run.not_finite import refuse_not_finite
from mdm_kit.run.summed_course import SummedCourse


class MapCourse(ChangeCourse):
    """Merges the maps of a tensor; what it means to take models in is the rule's."""

    def __init__(self, write: Write, rule: MapRule, factor: float) -> None:
        """Begin with no map merged."""
        super().__init__(write, [], factor)
        self._rule = rule
        self.matrices = rule.matrices
        self.wide = self.apply.compute == "float64"
        self._left = len(rule.matrices)
        self._lock = threading.Lock()
        self._countdown = Countdown(1)

    @property
    @abstractmethod
    def in_turn(self) -> tuple[Read, ...]:
        """What merging a map reads, one after the other, the base first."""

    @abstractmethod
    def merge_models(self, index: int, borrow: Borrow) -> None:
        """Merge a map of all models."""

    @abstractmethod
    def settle_maps(self) -> None:
        """Have the merged change in `total`, once all maps are merged."""

    def await_sums(self) -> None:
        """Return when all maps are merged; raises `Starved` where one failed."""
        if not self._countdown.wait():
            raise Starved("a map of this tensor failed")

    def announce(self, index: int, borrow: Borrow) -> int:
        """Tell far sources what merging a map will read, and return its bytes."""
        first, last = self.matrices[index].span
        return sum(borrow.unread((r,), first, last - first).announce() for r in self.in_turn)

    def room(self, index: int) -> int:
        """Return the bytes that merging a map takes, beside sums and result."""
        return map_nbytes(self._rule, self.matrices[index], n_models(self.apply))

    def merge_map(self, index: int, borrow: Borrow, gate: Gate) -> None:
        """Merge one of the maps; raises `NotFiniteError` naming tensor and model."""
        from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread

        give_back_large_blocks()
        try:
            with gate.room(self.room(index)), one_thread():
                self.merge_models(index, borrow)
            with self._lock:
                self._left -= 1
                is_last = not self._left
            if is_last:
                self.settle_maps()
                self._countdown.done(1)
        except BaseException:
            self._countdown.give_up()
            raise

    @property
    def models(self) -> tuple[Read, ...]:
        """The models that are merged, taken in, or out, in order."""
        return self.apply.reads

    @contextmanager
    def change(self, read: Read, base: Inputs, borrow: Borrow, index: int) -> Iterator[MapLines]:
        """Lend what a model changed in a map, as rows."""
        first, last = self.matrices[index].span
        with borrow.of((read,), first, last - first) as model:
            yield self.lines_of(index, borrow, model, base, wide=self.wide)

    def lines_of(
        self, index: int, borrow: Borrow, given: Inputs, less: Inputs | None = None, *, wide: bool
    ) -> MapLines:
        """Return a borrowed tensor's elements of a map, less those of another, as rows."""
        inputs = (given,) if less is None else (given, less)
        numbers = Numbers(
            [i.addresses[0] for i in inputs],
            [i.dtypes[0] for i in inputs],
            (1.0, -1.0)[: len(inputs)],
            self.matrices[index].span[0],
            borrow.profile,
            wide=wide,
        )
        return MapLines(numbers, self.matrices[index])

    def refuse(self, read: Read, borrow: Borrow, index: int) -> NoReturn:
        """Raise `NotFiniteError` for a model whose change to a map is not finite."""
        first, last = self.matrices[index].span
        with borrow.of((self.base, read), first, last - first) as inputs:
            refuse_not_finite(self.write, inputs, first)


class SummedMapCourse(MapCourse, SummedCourse):
    """Sums the maps of a tensor over the models: what it has of earlier ones is of fixed size."""

    @property
    @abstractmethod
    def starts(self) -> tuple[Read, ...]:
        """The sums to begin with that lie in memory as the tensor does."""

    @property
    def in_turn(self) -> tuple[Read, ...]:
        """The base, what there is to begin with, every model."""
        return (self.base, *self.starts, *self.models)

    @abstractmethod
    def settled(self) -> SummedTensor:
        """Return how the tensor was summed, once all maps are; from then on there is a `total`."""

    def settle_maps(self) -> None:
        """Note how the tensor was summed."""
        self.facts = self.settled()
