"""Puts rows of several tensors together: copied, widened or averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mdm_kit.sources.row_map import MEAN, ZERO, RowMap, Run
from mdm_kit.sources.rows import Rows, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mdm_kit.words import TensorInfo

_CHUNK = 1 << 18
"""Elements that are converted at once."""


@dataclass(frozen=True, slots=True)
class AlignedTensor:
    """A tensor as it is offered, its row map, and the stored tensors its origins count.

    `width` is the number of elements of a row. `info.dtype` holds every value of the rows that are
    taken: where it is another than that of the stored ones, they are widened to F32 or F64, and so
    it is where rows are averaged. A mean is summed in float64 and rounded once.
    """

    info: TensorInfo
    rows: RowMap
    width: int
    origins: Sequence[Rows | None]

    def origin(self, i: int) -> Rows:
        """Return the stored tensor rows of origin `i` are in."""
        rows = self.origins[i]
        assert rows is not None  # noqa: S101 -- a map takes rows only from tensors there are
        return rows

    def reads(self, run: Run) -> Iterator[tuple[Rows, int, int]]:
        """Yield what a run reads: stored tensors, first elements and counts, in order."""
        if run.origin == MEAN:
            for owners, _, column, count in self._segments(run):
                for i, row in owners:
                    yield self.origin(i), row * self.width + column, count
        elif run.origin >= 0:
            yield self.origin(run.origin), run.first, run.stop - run.start

    def fill(self, run: Run, part: memoryview) -> None:
        """Fill `part` with the elements of a run that is no padding."""
        if run.origin == ZERO:
            np.frombuffer(part, np.uint8)[:] = 0
        elif run.origin == MEAN:
            self._average(run, part)
        else:
            self._take(run, part)

    def put(self, values: NDArray[np.float64], part: memoryview) -> None:
        """Fill `part` with float64 numbers, each rounded once."""
        assert self.info.dtype in ("F32", "F64")  # noqa: S101 -- means are offered wide
        np.frombuffer(part, "<f8" if self.info.dtype == "F64" else "<f4")[:] = values

    def _take(self, run: Run, part: memoryview) -> None:
        rows = self.origin(run.origin)
        if rows.info.dtype == self.info.dtype:
            rows.read(run.first, part)
            return
        # Always to a wider dtype, so exact; and in one reading, as it was announced.
        loaned = bytearray((run.stop - run.start) * rows.width)
        rows.read(run.first, memoryview(loaned))
        out = np.frombuffer(part, "<f8" if self.info.dtype == "F64" else "<f4")
        for low in range(0, len(out), _CHUNK):
            raw = memoryview(loaned)[low * rows.width : (low + _CHUNK) * rows.width]
            out[low : low + _CHUNK] = numbers(raw, rows.info.dtype)

    def _average(self, run: Run, part: memoryview) -> None:
        size = len(part) // (run.stop - run.start)
        for owners, at, column, count in self._segments(run):
            total = np.zeros(count)
            for i, row in owners:
                total += self.origin(i).values(row * self.width + column, count)
            self.put(total / len(owners), part[at * size : (at + count) * size])

    def _segments(self, run: Run) -> Iterator[tuple[tuple[tuple[int, int], ...], int, int, int]]:
        """Yield each row of a run of means: who is averaged, where in the run, column, count."""
        at, n = 0, run.stop - run.start
        while at < n:
            mean, column = divmod(run.first + at, self.width)
            count = min(self.width - column, n - at)
            yield self.rows.means[mean], at, column, count
            at += count
