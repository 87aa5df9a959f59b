"""The digest of a whole file from parts that arrive nearly in order."""

from __future__ import annotations

import hashlib
import threading

MAX_WAITING = 7
"""Parts that may wait for one before them: as many as are fetched ahead of one that is slow."""


class WholeDigest:
    """sha256 of a file of `size` bytes; parts that come too far out of order make it give up."""

    def __init__(self, size: int) -> None:
        """Begin at the file's first byte."""
        self._size = size
        self._at = 0
        self._digest = hashlib.sha256()
        self._waiting: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._lost = False

    def whole(self) -> str | None:
        """Return the digest (hex) once every byte came by, else None."""
        with self._lock:
            return None if self._lost or self._at < self._size else self._digest.hexdigest()

    def take(self, begin: int, data: memoryview) -> None:
        """Take the bytes from `begin` on; those that were taken before count once."""
        with self._lock:
            if self._lost or begin + len(data) <= self._at:
                return
            if begin > self._at:
                self._wait(begin, data)
                return
            self._update(begin, data)
            while (then := min(self._waiting, default=self._size)) <= self._at < self._size:
                self._update(then, memoryview(self._waiting.pop(then)))

    def _update(self, begin: int, data: memoryview) -> None:
        self._digest.update(data[self._at - begin :])
        self._at = max(self._at, begin + len(data))

    def _wait(self, begin: int, data: memoryview) -> None:
        self._waiting[begin] = bytes(data)
        if len(self._waiting) > MAX_WAITING:
            self._lost = True
            self._waiting.clear()
