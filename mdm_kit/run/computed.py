"""The tensors of a stage, made as they are asked for: what a folder of it would hold, without one.

Whoever asks makes the tiles it needs, by the same work as any merge. Where a tensor must be read
whole first, all who wait for it share that reading. Made tiles are kept in a pool until they were
asked for as often as was foreseen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from mdm_kit.planner.plan import PlannedStage
from mdm_kit.planner.stage_costs import Key
from mdm_kit.run.course import Course
from mdm_kit.run.executor import Starved
from mdm_kit.run.pool import Made, Pool
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import Batch, MeasureTile, StageTile, Tile, measure_tiles_of, stage_tiles_of
from mdm_kit.run.work import Work
from mdm_kit.sources import Loan
from mdm_kit.words import TensorInfo

IDLE_TENSORS = 64
"""Tensors without a tile that are remembered: what was found out of them by reading them whole."""
_NOTHING = np.empty(0, np.uint8)
_COMPARED_NBYTES = 1 << 21


class Computed:
    """Makes the tensors of a streamed stage; safe to use from several threads."""

    def __init__(
        self, stage: PlannedStage, work: Work, pool: Pool, uses: Mapping[Key, int]
    ) -> None:
        """Make them by `work`, for as many readings as `uses` foresees."""
        self._stage, self._work, self._pool, self._uses = stage, work, pool, uses
        self._budget = stage.plan.budget
        self._writes = {w.name: w for w in stage.plan.writes}
        self._tensors: dict[str, Made] = {}
        self._announced: set[tuple[str, int]] = set()
        self._expected: Made | None = None
        self._announcing = threading.Lock()

    @property
    def is_far(self) -> bool:
        """Whether models it reads are not on this machine."""
        return any(s.source.is_far for s in self._stage.plan.sources)

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Return bytes of a tensor, made now where they are not there any more."""
        if not nbytes:
            return Loan(_NOTHING.ctypes.data, 0, lambda: None)
        with self._pool.changed:
            made = self._made(info.name)
            pages = range(start // made.page_nbytes, -(-(start + nbytes) // made.page_nbytes))
            for page in pages:
                self._pool.take(made, page)
        try:
            for page in pages:
                self._ensure(made, page)
        except BaseException:
            self._put_back(made, pages, 0, 0)
            raise
        address = made.bytes.ctypes.data + start
        return Loan(address, nbytes, lambda: self._put_back(made, pages, start, start + nbytes))

    def _put_back(self, made: Made, pages: range, start: int, end: int) -> None:
        with self._pool.changed:
            for page in pages:
                low, high = made.span(page)
                self._pool.put_back(made, page, max(0, min(end, high) - max(start, low)))
            if made.left <= 0:
                self._drop(made)

    def _drop(self, made: Made) -> None:
        """Forget a tensor, if nobody uses it."""
        if not any(p.users for p in made.pages):
            self._pool.forget(made)
            if self._tensors.get(made.write.name) is made:
                del self._tensors[made.write.name]

    def _made(self, name: str) -> Made:
        """Return a tensor to make tiles of; the one that was asked for last stands last."""
        made = self._tensors.pop(name, None) or self._begun(name)
        self._tensors[name] = made
        for other in list(self._tensors.values())[:-IDLE_TENSORS]:
            if not any(p.ready for p in other.pages):
                self._drop(other)
        return made

    def _begun(self, name: str) -> Made:
        write = self._writes[name]
        size = self._budget.tile_of(write)
        apply = write.apply()
        unsolved = apply is not None and apply.group is not None and name not in self._work.weights
        measured = self._work.tally(write, exact=False) if unsolved else None
        course = self._work.course_of(write)
        uses = self._uses.get((self._stage.name, name), 1)
        readings = iter(()) if write.n_elements <= size else _readings(measured, course, size)
        return Made(write, size, max(1, uses), measured, course, readings)

    def _ensure(self, made: Made, page: int) -> None:
        """Return when a page is made, by this thread or another."""
        changed, one = self._pool.changed, made.pages[page]
        with changed:
            changed.wait_for(lambda: one.ready or not one.busy)
            if one.ready:
                return
            one.busy = True
        try:
            self._make(made, page)
            with changed:
                self._pool.add(made, page)
        finally:
            with changed:
                one.busy = False
                changed.notify_all()

    def _make(self, made: Made, page: int) -> None:
        try:
            self._read(made)
            start, end = made.span(page)
            self._work(Batch((_tile(made, page),), 0), made.bytes[start:end])
        except Starved:
            with self._pool.changed:
                self._pool.changed.wait_for(lambda: made.failure is not None)
            raise made.failure or RuntimeError from None

    def _read(self, made: Made) -> None:
        """Take part in reading the tensor whole, until there is nothing left to begin."""
        while True:
            with self._pool.changed:
                job = next(made.readings, None)
            if job is None:
                return
            try:
                self._work(job, _NOTHING)
            except Starved:
                raise
            except BaseException as failure:
                with self._pool.changed:
                    made.failure = made.failure or failure
                    self._pool.changed.notify_all()
                raise

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce to far models what making these bytes will read, each tile once."""
        if not nbytes:
            return
        with self._announcing:
            made = self._expected
            if made is None or made.write.name != info.name:
                made = self._expected = self._begun(info.name)
            last = (start + nbytes - 1) // made.page_nbytes
            if (info.name, -1) not in self._announced:
                self._announced.add((info.name, -1))
                for job in made.readings:
                    self._work.announce(job)
            for page in range(start // made.page_nbytes, last + 1):
                if (info.name, page) not in self._announced:
                    self._announced.add((info.name, page))
                    self._work.announce(Batch((_tile(made, page),), 0))

    def are_tied(self, head: str, embeddings: Sequence[str]) -> bool:
        """Whether the head has the bytes of one of these embeddings; makes them to compare."""
        tensors = self._stage.source.headers().tensors
        return any(self._are_equal(tensors[head], tensors[name]) for name in embeddings)

    def _are_equal(self, a: TensorInfo, b: TensorInfo) -> bool:
        if a.nbytes != b.nbytes:
            return False
        for start in range(0, a.nbytes, _COMPARED_NBYTES):
            nbytes = min(_COMPARED_NBYTES, a.nbytes - start)
            if self._bytes(a, start, nbytes) != self._bytes(b, start, nbytes):
                return False
        return True

    def _bytes(self, info: TensorInfo, start: int, nbytes: int) -> bytes:
        loan = self.lend(info, start, nbytes)
        try:
            return bytes(loan.view())
        finally:
            loan.release()


def _tile(made: Made, page: int) -> Tile:
    start = page * made.size
    count = min(made.size, made.write.n_elements - start)
    return Tile(made.write, start, count, made.measured, made.course)


def _readings(
    measured: Tally | None, course: Course | None, size: int
) -> Iterator[MeasureTile | StageTile]:
    """Yield what must be read of a large tensor before its first tile is made."""
    first = measure_tiles_of(measured, size) if measured is not None else ()
    stages = range(len(course.stages)) if course is not None else ()
    rest = (stage_tiles_of(course, i, size) for i in stages if course is not None)
    yield from chain(first, *rest)
