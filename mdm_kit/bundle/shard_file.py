"""Writes one safetensors file from blocks that arrive in order, and digests it on the way."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blake3 import blake3

from mdm_kit.bundle.direct_file import DirectFile
from mdm_kit.bundle.durable import sync_folder
from mdm_kit.errors import RoomError
from mdm_kit.words import human_bytes, shown

INLINE_NBYTES = 1 << 17
"""Blocks below this are hashed before they are written instead of meanwhile: handing one to
another thread costs more than hashing it."""
CACHED_NBYTES = 1 << 17
"""What both digests take in turn: the second one finds it in the processor's cache."""
READ_NBYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class ShardDigests:
    """Digests of a finished shard: sha256 of the file, BLAKE3 of each tensor's bytes in order."""

    sha256: str
    tensors: tuple[str, ...]


class Digester:
    """Feeds a file's bytes, header first, to the file's sha256 and each tensor's BLAKE3."""

    def __init__(self, header: bytes, tensor_nbytes: Sequence[int]) -> None:
        """Begin with the header; tensors of these sizes follow."""
        self._file = hashlib.sha256(header)
        self._left = list(reversed(tensor_nbytes))
        self._tensor = blake3()
        self._done: list[str] = []
        self._close_full()

    def update(self, block: memoryview) -> None:
        """Take the next bytes."""
        for start in range(0, len(block), CACHED_NBYTES):
            self._update(block[start : start + CACHED_NBYTES])

    def _update(self, block: memoryview) -> None:
        self._file.update(block)
        while len(block) and self._left:
            part = block[: self._left[-1]]
            self._tensor.update(part)
            self._left[-1] -= len(part)
            block = block[len(part) :]
            self._close_full()

    def _close_full(self) -> None:
        while self._left and self._left[-1] == 0:
            self._left.pop()
            self._done.append("blake3:" + self._tensor.hexdigest())
            self._tensor = blake3()

    def digests(self) -> ShardDigests:
        """Return the digests of what was taken, once that is everything."""
        return ShardDigests("sha256:" + self._file.hexdigest(), tuple(self._done))


class ShardFile:
    """A shard on its way to disk: a temporary file that gets its name when it is whole.

    Used as a context manager; left before `finish`, it leaves nothing behind.
    """

    def __init__(self, path: Path, header: bytes, tensor_nbytes: Sequence[int]) -> None:
        """Create the temporary file beside `path`, give it its full size and write the header.

        Raises `RoomError` where the disk cannot hold it.
        """
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._digester = Digester(header, tensor_nbytes)
        self._hasher = ThreadPoolExecutor(1, "hash")
        self._nbytes = len(header) + sum(tensor_nbytes)
        with self._clear_errors():
            self._file = DirectFile(self._temporary, self._nbytes)
            self._reserve(self._nbytes)
            padded = mmap.mmap(-1, len(header))
            padded[:] = header
            self._file.write(memoryview(padded), 0)

    def __enter__(self) -> Self:
        """Return the open shard."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file and remove it unless `finish` gave it its name."""
        self._hasher.shutdown()
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def append(self, block: memoryview, start: int) -> None:
        """Write and digest the next bytes, `block[start:]`; see `DirectFile.write`.

        `block` may be reused when this returns.
        """
        new = block[start:]
        if len(new) < INLINE_NBYTES:
            self._digester.update(new)
            with self._clear_errors():
                self._file.write(block, start)
            return
        hashed = self._hasher.submit(self._digester.update, new)
        try:
            with self._clear_errors():
                self._file.write(block, start)
        finally:
            hashed.result()

    def finish(self) -> ShardDigests:
        """Make the file durable, readable like any new file, and visible under its name."""
        with self._clear_errors():
            self._file.finish()
            os.fchmod(self._file.fd, 0o666 & ~_umask())
            self._file.close()
            self._temporary.rename(self._path)
            sync_folder(self._path.parent)
        return self._digester.digests()

    def _reserve(self, nbytes: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._file.fd, 0, nbytes)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RoomError(
                f"cannot write {shown(self._path.name)} ({human_bytes(self._nbytes)}): "
                f"{error.strerror}; finished shards are kept: make room and run the same "
                "command again to go on"
            ) from error


def digest_file(
    path: Path,
    header_nbytes: int,
    tensor_nbytes: Sequence[int],
    advance: Callable[[int], None] = lambda _: None,
) -> ShardDigests:
    """Digest a shard from disk in one pass, its tensors in the order of their bytes.

    `advance` is told the bytes read. The file must have the size these numbers add up to.
    """
    block = memoryview(bytearray(READ_NBYTES))
    with path.open("rb", buffering=0) as file:
        digester = Digester(file.read(header_nbytes), tensor_nbytes)
        advance(header_nbytes)
        while n := file.readinto(block):
            digester.update(block[:n])
            advance(n)
    return digester.digests()


def _umask() -> int:
    # The mask can only be read by setting it; another thread would see 0o077 for a moment, which
    # errs on the private side.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
