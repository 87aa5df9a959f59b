"""Elements of one stored tensor, whoever wants them: read where they lie, or from a copy.

Rows that are wanted in an order of their own would each be a request to the Hub, or a block to
decode. Such a tensor is fetched once, in order, into a temporary file without a name.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import TYPE_CHECKING

import numpy as np

from mdm_kit.errors import RoomError, UsageError
from mdm_kit.words import DTYPES, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.seam import Source
    from mdm_kit.words import TensorInfo

COPY_NBYTES = 8 << 20
"""Bytes of a copy that are fetched at once."""


class Rows:
    """The elements of a tensor of a source; `copied` says whether they go through a copy.

    Safe to use from several threads. `nbytes` of the tensor are then taken in the folder for
    temporary files until `close`.
    """

    def __init__(self, source: Source, info: TensorInfo, *, copied: bool) -> None:
        """Read nothing yet."""
        self.source = source
        self.info = info
        self.copied = copied
        self.width = DTYPES[info.dtype].bits // 8
        self._lock = threading.Lock()
        self._announced = False
        self._closed = False
        self._map: mmap.mmap | None = None

    def expect(self, first: int, count: int) -> None:
        """Announce that `count` elements from `first` on will be read, or the copy be made."""
        if not self.copied:
            self.source.expect(self.info, first * self.width, count * self.width)
            return
        with self._lock:
            if self._announced or self._map is not None:
                return
            self._announced = True
        for start, nbytes in self._parts():
            self.source.expect(self.info, start, nbytes)

    def lend(self, first: int, count: int) -> Loan:
        """Lend elements where they lie; only for a tensor that is not copied."""
        return self.source.lend(self.info, first * self.width, count * self.width)

    def read(self, first: int, into: memoryview) -> None:
        """Fill `into` with elements from `first` on, as they are stored."""
        start = first * self.width
        if self.copied:
            into[:] = memoryview(self._copy())[start : start + len(into)]
        else:
            self.source.read(self.info, into, start)

    def values(self, first: int, count: int) -> NDArray[np.floating]:
        """Return elements as numbers, exactly: float64 for F64, else float32."""
        raw = bytearray(count * self.width)
        self.read(first, memoryview(raw))
        return numbers(raw, self.info.dtype)

    def close(self) -> None:
        """Remove the copy; the source stays open."""
        with self._lock:
            self._closed = True
            if self._map is not None:
                self._map.close()
                self._map = None

    def _parts(self) -> list[tuple[int, int]]:
        n = self.info.nbytes
        return [(i, min(COPY_NBYTES, n - i)) for i in range(0, n, COPY_NBYTES)]

    def _copy(self) -> mmap.mmap:
        with self._lock:
            if self._closed:
                raise UsageError(f"{shown(self.source.name)} was closed; open it again to read")
            if self._map is None:
                self._map = self._fetched()
            return self._map

    def _fetched(self) -> mmap.mmap:
        try:
            with tempfile.TemporaryFile() as file:
                os.posix_fallocate(file.fileno(), 0, self.info.nbytes)
                copy = mmap.mmap(file.fileno(), self.info.nbytes)
        except OSError as error:
            raise RoomError(
                f"{shown(self.info.name)} of {shown(self.source.name)} is read in another order "
                f"through a temporary file of {self.info.nbytes:,} bytes, and "
                f"{shown(tempfile.gettempdir())} has no room for it ({error.strerror}); "
                "point TMPDIR to a folder that has"
            ) from None
        for start, nbytes in self._parts():
            loan = self.source.lend(self.info, start, nbytes)
            try:
                copy[start : start + nbytes] = loan.view()
            finally:
                loan.release()
        return copy


def numbers(raw: bytearray | memoryview, dtype: str) -> NDArray[np.floating]:
    """Return stored F64, F32, F16 or BF16 as numbers: float64 for F64, else float32; exact."""
    if dtype == "BF16":
        wide = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32)
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32)
    return np.frombuffer(raw, "<f8" if dtype == "F64" else "<f4")
