"""The stage: a work folder beside the output where everything is built before one rename seals it.

`OUT`'s work folder is `.OUT.mdm-partial` in the same directory. In it `model/` becomes OUT;
`journal.jsonl` says which shards are finished; `sums/` holds sums of changes while they grow,
`stages/` what earlier documents of the recipe made, while it is read.
Whoever writes holds a lock on the work folder; the lock goes with the process, so a killed merge
never leaves one behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Self

from mdm_kit.bundle.durable import sync_folder
from mdm_kit.errors import OutputExists, OutputLocked, RoomError, UsageError
from mdm_kit.ledger.manifest import MANIFEST_NAME
from mdm_kit.words import human_bytes, shown

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


def work_folder(out: Path) -> Path:
    """Return the folder a merge into `out` is built in."""
    return out.with_name(f".{out.name}.mdm-partial")


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output that may not be written.

    Raises `OutputExists` where `out` is a merged folder and `overwrite` is off, or is anything
    else but an empty folder; `UsageError` where its parent does not exist; `RoomError` where the
    system does not let anyone look.
    """
    try:
        _check_place(out, overwrite=overwrite)
    except OSError as error:
        raise RoomError(
            f"{shown(str(out))} cannot be written: {error.strerror}; name another place"
        ) from None


def _check_place(out: Path, *, overwrite: bool) -> None:
    if out.is_symlink():
        raise UsageError(f"{shown(str(out))} is a symbolic link; name the folder itself")
    if not out.parent.is_dir():
        raise UsageError(
            f"the folder {shown(str(out.parent))} to put the output in does not exist; create it"
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise OutputExists(f"{shown(str(out))} is a file; name a folder that does not exist yet")
    if not (out / MANIFEST_NAME).is_file():
        raise OutputExists(
            f"{shown(str(out))} holds files that mdm_kit did not write; "
            "name a folder that does not exist yet"
        )
    if not overwrite:
        raise OutputExists(
            f"{shown(str(out))} is a finished merge already; "
            "name another folder, or replace it with --overwrite"
        )


def put(path: Path, data: bytes) -> None:
    """Write a small file, durably."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class Stage:
    """The work folder of one output, held by one process."""

    def __init__(self, out: Path) -> None:
        """Create or find the work folder of `out` and lock it.

        Raises `OutputLocked` while another process holds it, `RoomError` where the place cannot be
        written.
        """
        self.out = out
        self.work = work_folder(out)
        self.model = self.work / "model"
        self.journal = self.work / "journal.jsonl"
        self.sums = self.work / "sums"
        self.stages = self.work / "stages"
        self._lock = self._acquire()
        with self.told():
            self.model.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn whatever the system refuses inside the block into a `RoomError`."""
        try:
            yield
        except OSError as error:
            raise RoomError(
                f"cannot write {shown(str(self.out))}: {error.strerror or error}; finished shards "
                "are kept: make room or mend the place, and run the same command to go on"
            ) from error

    def _acquire(self) -> int:
        try:
            self.work.mkdir(exist_ok=True)
            lock = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise RoomError(
                f"the work folder {shown(str(self.work))} cannot be used: {error.strerror}; "
                "remove what stands there, or name an output in a folder you may write to"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = self.work.stat().st_ino == os.fstat(lock).st_ino
        except OSError:
            same = False
        if not same:
            os.close(lock)
            raise OutputLocked(
                f"another process is merging into {shown(str(self.out))}; "
                "wait for it, or name another output"
            )
        return lock

    def __enter__(self) -> Self:
        """Return the stage; it holds its lock until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the lock go; what is built stays for a resume unless it was sealed or discarded."""
        os.close(self._lock)

    @property
    def begun_nbytes(self) -> int:
        """Room that sums and stages take already."""
        files = (p for folder in (self.sums, self.stages) for p in folder.rglob("*"))
        return sum(512 * path.stat().st_blocks for path in files if path.is_file())

    def clear(self) -> None:
        """Throw away everything built so far."""
        shutil.rmtree(self.model, ignore_errors=True)
        shutil.rmtree(self.sums, ignore_errors=True)
        shutil.rmtree(self.stages, ignore_errors=True)
        self.journal.unlink(missing_ok=True)
        self.model.mkdir()

    def keep_only(self, names: Collection[str]) -> None:
        """Remove whatever stands in the model folder besides the files called `names`.

        What an interrupted merge has left there may be half written, may be from before the recipe
        changed a word, or may be the folder that was being replaced.
        """
        for path in self.model.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in names:
                path.unlink()

    def discard(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self.work, ignore_errors=True)

    def put(self, name: str, data: bytes) -> None:
        """Write a small file of the model folder, durably."""
        path = self.model / name
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, data)

    def check_room(self, nbytes: int) -> None:
        """Raise `RoomError` where the file system has less than `nbytes` left."""
        free = shutil.disk_usage(self.work).free
        if free < nbytes:
            raise RoomError(
                f"the output needs {human_bytes(nbytes)} and {shown(str(self.out.parent))} has "
                f"{human_bytes(free)} left; free some room or name another place"
            )

    def seal(self, *, overwrite: bool) -> None:
        """Make the model folder the output, in one step, and remove the work folder.

        A folder that stands at the output is exchanged for the new one, so that at every moment
        either the old or the new one is there, whole. Raises what `check_output` raises, should
        something have appeared at the output since.
        """
        check_output(self.out, overwrite=overwrite)
        for folder in (self.model, *(p for p in self.model.rglob("*") if p.is_dir())):
            sync_folder(folder)
        if not self.out.exists() or not any(self.out.iterdir()):
            self.model.rename(self.out)
        elif not _exchange(self.model, self.out):
            self.out.rename(self.work / "old")
            self.model.rename(self.out)
        sync_folder(self.out.parent)
        self.discard()


def _exchange(new: Path, old: Path) -> bool:
    """Swap two folders atomically; False where the system has no call for it."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    done = renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(old))
