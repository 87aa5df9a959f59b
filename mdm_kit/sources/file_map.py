"""A file's bytes where the system holds them already: mapped, so that reading copies nothing.

Only bytes in the system's cache are lent; others are better read, with the system reading ahead.
Touching a page of a map that cannot be had kills the process, so pages are asked for first:
`MADV_POPULATE_READ` (Linux 5.14) brings them and answers with an error instead. Where it is missing
there are no maps, and callers read.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys

_MADV_POPULATE_READ = 22
_FAILED = ctypes.c_void_p(-1).value
_PAGE = mmap.PAGESIZE


def _system() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    system = ctypes.CDLL(None, use_errno=True)
    size, address, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    system.mmap.argtypes = (address, size, number, number, number, ctypes.c_int64)
    system.mmap.restype = address
    system.munmap.argtypes = (address, size)
    system.madvise.argtypes = (address, size, number)
    return system


_SYSTEM = _system()  # ctypes lets other threads run during a call, the mmap module does not


class FileMap:
    """The whole of an open file, read only: address space, and memory only where it is held."""

    def __init__(self, address: int, nbytes: int) -> None:
        """Take a mapping over; see `mapped`."""
        self._address = address
        self._nbytes = nbytes

    def hold(self, fd: int, offset: int, nbytes: int) -> int | None:
        """Return the address of `nbytes` bytes from `offset` on, kept in memory until `let_go`.

        None where the system's cache does not hold them, or they cannot be had: read them.
        """
        assert _SYSTEM is not None  # noqa: S101 -- there is a map
        if not (_is_cached(fd, offset) and _is_cached(fd, offset + nbytes - 1)):
            return None
        start, length = self._pages(offset, nbytes)
        while _SYSTEM.madvise(start, length, _MADV_POPULATE_READ):
            if ctypes.get_errno() not in (errno.EINTR, errno.EAGAIN):
                return None
        return self._address + offset

    def let_go(self, offset: int, nbytes: int) -> None:
        """Give the memory back; the system's cache keeps the bytes as long as it likes."""
        assert _SYSTEM is not None  # noqa: S101 -- there is a map
        _SYSTEM.madvise(*self._pages(offset, nbytes), mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Unmap the file; no address of it may be used any more."""
        assert _SYSTEM is not None  # noqa: S101 -- there is a map
        _SYSTEM.munmap(self._address, self._nbytes)

    def _pages(self, offset: int, nbytes: int) -> tuple[int, int]:
        start = offset // _PAGE * _PAGE
        return self._address + start, offset + nbytes - start


def _is_cached(fd: int, offset: int) -> bool:
    """Whether a byte can be read without waiting for the disk."""
    try:
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError:  # not cached, or a file system that cannot tell
        return False


def mapped(fd: int) -> FileMap | None:
    """Return a map of an open file, None where this system or this file does not do it."""
    nbytes = os.fstat(fd).st_size
    if _SYSTEM is None or nbytes == 0:
        return None
    address = _SYSTEM.mmap(None, nbytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    return None if address in (None, _FAILED) else FileMap(address, nbytes)
