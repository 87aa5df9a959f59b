"""Windows: bytes of far files in memory, and who awaits them."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALIGNMENT = 64
"""A byte lies in memory at the same offset, modulo this, as in its file: whatever is aligned there
is aligned here."""


class FarFile(Protocol):
    """A file that can be fetched in parts."""

    def fetch(self, begin: int, into: memoryview, stopped: Callable[[], bool]) -> None:
        """Fill `into` with the bytes from `begin` on; may give up once `stopped()`."""

    def arrived(self, begin: int, data: memoryview) -> None:
        """Take note of bytes that were fetched, in the order of their arrival."""


class Touch:
    """Bytes somebody will ask for; `at` counts the bytes announced before it."""

    __slots__ = ("at", "begin", "end", "file", "waiting")

    def __init__(self, file: WindowedFile, begin: int, end: int, at: int) -> None:
        """Want the bytes from `begin` to `end` of a file; nobody waits for them yet."""
        self.file, self.begin, self.end, self.at = file, begin, end, at
        self.waiting = False

    def fits(self, begin: int, end: int) -> bool:
        """Whether this is the touch that asks for these bytes; one that is waiting was asked."""
        return not self.waiting and (self.begin, self.end) == (begin, end)

    @property
    def lacks(self) -> bool:
        """Whether some of its bytes are in no window."""
        return next(self.file.missing(self.begin, self.end), None) is not None


class Window:
    """Bytes of a file, on their way or there; `awaited` touches and `users` keep it."""

    __slots__ = ("awaited", "begin", "block", "end", "fresh", "ready", "users")

    def __init__(self, begin: int, end: int, block: bytearray) -> None:
        """Hold the bytes from `begin` to `end` in a block with room for their alignment."""
        self.begin, self.end, self.block = begin, end, block
        self.ready, self.fresh = False, True
        self.awaited = 0
        self.users = 1  # who fetches it

    @property
    def nbytes(self) -> int:
        """How many bytes it holds."""
        return self.end - self.begin

    def address(self, at: int) -> int:
        """Return where byte `at` of the file lies."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        shift = (self.begin - start) % ALIGNMENT
        return start + shift + at - self.begin

    def view(self, begin: int, end: int) -> memoryview:
        """Return the bytes from `begin` to `end` of the file."""
        room = (ctypes.c_ubyte * (end - begin)).from_address(self.address(begin))
        return memoryview(room).cast("B")


class WindowedFile:
    """What is awaited of a file, in order, and its windows, which do not overlap, by place."""

    __slots__ = ("far", "touches", "windows")

    def __init__(self, far: FarFile) -> None:
        """Await and hold nothing yet."""
        self.far = far
        self.touches: list[Touch] = []
        self.windows: list[Window] = []

    def over(self, begin: int, end: int) -> list[Window]:
        """Return the windows that hold some of these bytes."""
        first = max(0, bisect_right(self.windows, begin, key=lambda w: w.begin) - 1)
        near = takewhile(lambda w: w.begin < end, self.windows[first:])
        return [w for w in near if w.end > begin]

    def over_touches(self, window: Window) -> list[Touch]:
        """Return the touches that want some of a window's bytes, in order."""
        return [t for t in self.touches if t.begin < window.end and t.end > window.begin]

    def missing(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a range that no window holds."""
        for window in self.over(begin, end):
            if window.begin > begin:
                yield begin, window.begin
            begin = max(begin, window.end)
        if begin < end:
            yield begin, end
