"""Reads at an offset, from many threads, through one descriptor per file and few at a time.

`preadv` has no seek to share, so threads need no lock while they read. A file is opened when first
read and closed when the set is full or closed; if it was another file by the time it is opened
again, that is said.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, MdmError, RoomError, SourceError, UsageError
from mdm_kit.sources.file_map import mapped
from mdm_kit.sources.loan import Loan
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mdm_kit.sources.file_map import FileMap

MAX_OPEN = 64
"""Ten models stay well under 1,024 descriptors, the usual soft limit of Linux."""


@dataclass(slots=True)
class _Open:
    """A descriptor, the file's map once somebody asked for it, and how many use them now."""

    fd: int
    users: int = 0
    map: FileMap | None = None
    tried_map: bool = False

    def close(self) -> None:
        if self.map is not None:
            self.map.close()
        os.close(self.fd)


class OpenFiles:
    """The files of one model, opened on demand; `path_of` says where a file lies."""

    def __init__(self, source: str, path_of: Callable[[str], Path], limit: int = MAX_OPEN) -> None:
        """Open nothing yet; keep at most `limit` descriptors that nobody is reading from."""
        self._source = source
        self._path_of = path_of
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._seen: dict[str, tuple[int, ...]] = {}
        self._closed = False

    def size(self, file: str) -> int:
        """Return the file's size in bytes."""
        entry = self._entry(file)
        try:
            return os.fstat(entry.fd).st_size
        finally:
            self._done(entry)

    def read_into(self, file: str, view: memoryview, offset: int) -> None:
        """Fill `view` (writable bytes) from byte `offset` of the file on."""
        entry = self._entry(file)
        try:
            done = 0
            while done < len(view):
                got = os.preadv(entry.fd, [view[done:]], offset + done)
                if got == 0:
                    raise IntegrityError(
                        f"{at(self._source, file)}: expected {len(view):,} bytes from byte "
                        f"{offset:,}, found the end of the file after {done:,}; "
                        "the file is cut short or is being written, get it again"
                    )
                done += got
        except OSError as error:
            raise told(error, self._source, file) from None
        finally:
            self._done(entry)

    def lend(self, file: str, offset: int, nbytes: int) -> Loan | None:
        """Lend bytes where the system holds them, None where they must be read; see `FileMap`."""
        entry = self._entry(file)
        held = None
        try:
            with self._lock:
                if not entry.tried_map:
                    entry.map, entry.tried_map = mapped(entry.fd), True
            here = entry.map
            if here is None:
                return None
            held = here.hold(entry.fd, offset, nbytes)
            if held is None:
                return None
        finally:
            if held is None:
                self._done(entry)

        def release() -> None:
            here.let_go(offset, nbytes)
            self._done(entry)

        return Loan(held, nbytes, release)

    def close(self) -> None:
        """Close every descriptor; reading afterwards is refused."""
        with self._lock:
            self._closed = True
            self._evict(keep=0)

    def _entry(self, file: str) -> _Open:
        """Return the file's descriptor, counted as in use, opened if it was not."""
        # Outside the lock: finding the path may mean a download, which must not hold up the
        # threads that read other files.
        return self._claimed(file) or self._added(file, self._path_of(file))

    def _done(self, entry: _Open) -> None:
        with self._lock:
            entry.users -= 1
            self._evict(keep=0 if self._closed else self._limit)

    def _claimed(self, file: str) -> _Open | None:
        """Return the file's descriptor, counted as in use, or None if it is not open."""
        with self._lock:
            if self._closed:
                raise UsageError(f"{at(self._source)} was closed; open it again to read")
            entry = self._open.get(file)
            if entry is not None:
                entry.users += 1
                self._open.move_to_end(file)
            return entry

    def _added(self, file: str, path: Path) -> _Open:
        """Return a descriptor of the file at `path`, counted as in use, another thread's or new."""
        with self._lock:
            entry = self._open.get(file)
            if entry is None:
                entry = self._open[file] = _Open(self._opened(file, path))
            entry.users += 1
            self._open.move_to_end(file)
            self._evict(keep=self._limit)
            return entry

    def _evict(self, keep: int) -> None:
        """Close idle descriptors, the longest unused first, until `keep` are open."""
        if len(self._open) <= keep:
            return
        for file in [f for f, entry in self._open.items() if entry.users == 0]:
            if len(self._open) <= keep:
                return
            self._open.pop(file).close()

    def _opened(self, file: str, path: Path) -> int:
        try:
            fd = open_regular(path)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise told(error, self._source, file) from None
            self._evict(keep=0)
            try:
                fd = open_regular(path)
            except OSError as again:
                raise told(again, self._source, file) from None
        status = os.fstat(fd)
        now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(file, now) != now:
            os.close(fd)
            raise IntegrityError(
                f"{at(self._source, file)}: expected the file read before, found that it was "
                "changed meanwhile; run again when nothing writes it any more"
            )
        return fd


def open_regular(path: Path) -> int:
    """Return a descriptor to read `path`, which must be a regular file and no link.

    Raises OSError. Without O_NONBLOCK a named pipe would keep us waiting for its writer.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def told(error: OSError, source: str, file: str | None) -> MdmError:
    """Return what a failed open or read of a model's file means to the person who waits for it."""
    where = at(source, file)
    reason = os.strerror(error.errno).lower() if error.errno else "it cannot be read"
    match error.errno:
        case errno.EMFILE | errno.ENFILE:
            return RoomError(
                f"{where}: expected to open one more file, found the limit on open files reached; "
                "raise it (ulimit -n) or close other programs"
            )
        case errno.ENOENT:
            return SourceError(f"{where}: expected a file, found none; get the model again")
        case errno.EACCES | errno.EPERM:
            return SourceError(f"{where}: you may not read it; change its permissions")
        case errno.EINVAL | errno.EISDIR | errno.ELOOP:
            return SourceError(f"{where}: expected a regular file, found something else")
        case errno.EIO:
            return SourceError(
                f"{where}: the disk could not read it ({reason}); copy the model to another disk"
            )
        case _:
            return SourceError(f"{where}: {reason}")
