"""Room for tiles that were made and may be asked for again, of all stages of a merge together."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mdm_kit.planner.nodes import Write
from mdm_kit.run.course import Course
from mdm_kit.run.executor import Bytes
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import MeasureTile, StageTile
from mdm_kit.words import DTYPES

MAPPED_NBYTES = 1 << 17
"""Tensors beyond it have pages of their own, which go back to the system one by one."""


@dataclass(slots=True)
class Page:
    """A tile of a tensor: how many loans hold it, how many bytes of it will still be asked for."""

    left: int
    users: int = 0
    busy: bool = False
    ready: bool = False


class Made:
    """A tensor that is made tile by tile. `left` is how many bytes of it will be asked for."""

    def __init__(
        self,
        write: Write,
        size: int,
        uses: int,
        measured: Tally | None,
        course: Course | None,
        readings: Iterator[MeasureTile | StageTile],
    ) -> None:
        """Begin with nothing made; `readings` is what must be read before its first tile."""
        self.write, self.size = write, size
        self.measured, self.course, self.readings = measured, course, readings
        self.failure: BaseException | None = None
        self.page_nbytes = size * DTYPES[write.dtype].bits // 8
        self.left = uses * write.nbytes
        self._map = _private(write.nbytes) if write.nbytes > MAPPED_NBYTES else None
        self.bytes: Bytes = np.empty(write.nbytes, np.uint8)
        if self._map is not None:
            self.bytes = np.frombuffer(self._map, np.uint8)
        starts = range(0, write.nbytes, self.page_nbytes)
        self.pages = [Page(uses * min(self.page_nbytes, write.nbytes - at)) for at in starts]

    def span(self, page: int) -> tuple[int, int]:
        """Return the half-open range of bytes of a page."""
        start = page * self.page_nbytes
        return start, min(start + self.page_nbytes, self.write.nbytes)

    def forget(self, page: int) -> None:
        """Give the memory of a page back."""
        self.pages[page].ready = False
        if self._map is not None:
            start, end = self.span(page)
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)


def _private(nbytes: int) -> mmap.mmap:
    """Return memory whose pages go back one by one: those of shared memory would stay."""
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Pool:
    """Counts the made pages; idle ones beyond `limit` bytes go, the oldest first.

    Its `changed` guards pages and tensors of all stages. A merge that needs more at once gets it.
    """

    def __init__(self, limit: int) -> None:
        """Hold nothing yet."""
        self.changed = threading.Condition()
        self._limit = limit
        self._held = 0
        self._idle: OrderedDict[tuple[Made, int], None] = OrderedDict()

    def take(self, made: Made, page: int) -> None:
        """Keep a page until it is put back."""
        made.pages[page].users += 1
        self._idle.pop((made, page), None)

    def add(self, made: Made, page: int) -> None:
        """Count a page that was made."""
        start, end = made.span(page)
        made.pages[page].ready = True
        self._held += end - start
        self._shrink()

    def put_back(self, made: Made, page: int, nbytes: int) -> None:
        """Let a page go of which `nbytes` were used; one nobody will ask for again goes at once."""
        one = made.pages[page]
        one.users -= 1
        one.left -= nbytes
        made.left -= nbytes
        if one.users or not one.ready:
            return
        self._idle[made, page] = None
        if one.left <= 0:
            self._forget(made, page)
        self._shrink()

    def forget(self, made: Made) -> None:
        """Let all idle pages of a tensor go."""
        for page in range(len(made.pages)):
            if (made, page) in self._idle:
                self._forget(made, page)

    def _shrink(self) -> None:
        while self._held > self._limit and self._idle:
            self._forget(*next(iter(self._idle)))

    def _forget(self, made: Made, page: int) -> None:
        del self._idle[made, page]
        start, end = made.span(page)
        self._held -= end - start
        made.forget(page)
