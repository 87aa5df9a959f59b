"""Writes a file front to back past the system's cache, where the file system can.

A merge writes gigabytes once. Through the cache they would be copied, push out the models that are
being read, and wait for one long flush at the end. Direct writes begin and end at multiples of 4096
in the file and in memory, so blocks come with room in front for the bytes that were left over.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

ALIGNMENT = 4096
DIRECT_NBYTES = 1 << 26
"""Smaller files go through the cache: whoever opens them next finds them there."""


class DirectFile:
    """A new file of a known size. `write` what comes next, then `finish`; all raise OSError."""

    def __init__(self, path: Path, nbytes: int) -> None:
        """Create the file, readable by its owner alone."""
        self._nbytes = nbytes
        self._left_over = b""
        self._direct = nbytes >= DIRECT_NBYTES and hasattr(os, "O_DIRECT")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self.fd = -1
        if self._direct:
            try:
                self.fd = os.open(path, flags | os.O_DIRECT, 0o600)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                self._direct = False
        if self.fd < 0:
            self.fd = os.open(path, flags, 0o600)

    def write(self, block: memoryview, start: int) -> None:
        """Write `block[start:]`; `block` begins at a multiple of 4096 in memory.

        `start` is the file's length so far modulo 4096: what lies before it is overwritten.
        """
        if not self._direct:
            self._write_all(block[start:])
            return
        block[:start] = self._left_over
        whole = len(block) // ALIGNMENT * ALIGNMENT
        self._left_over = bytes(block[whole:])
        self._write_all(block[:whole])

    def finish(self) -> None:
        """Write what is left over and make the file durable."""
        if self._left_over:
            last = mmap.mmap(-1, ALIGNMENT)
            last[: len(self._left_over)] = self._left_over
            self._write_all(memoryview(last))
            os.ftruncate(self.fd, self._nbytes)
        os.fsync(self.fd)

    def close(self) -> None:
        """Close the file; again does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write_all(self, block: memoryview) -> None:
        while len(block):
            try:
                block = block[os.write(self.fd, block) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._give_up_direct()

    def _give_up_direct(self) -> None:
        """Go on through the cache: some file systems say only now that they cannot."""
        import fcntl

        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        if not flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
