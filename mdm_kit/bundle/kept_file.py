"""Writes one kept model's file: a safetensors file whose entries have the size they turn out with.

The header stands in front, and the sizes in it are known last. Room for the longest header there
can be is left open and filled with spaces behind the true one, as the format allows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mdm_kit.bundle.durable import sync_folder
from mdm_kit.errors import RoomError, UsageError
from mdm_kit.words import human_bytes, shown

MAX_HEADER_NBYTES = 20_000_000
"""About 70,000 tensors; below what our own reader takes (25 MB) and the format does (100 MB)."""

_LENGTH_NBYTES = 8
_ALIGNMENT = 64
_LONGEST_OFFSET = 10**16 - 1
"""Ten petabytes: as many digits as any offset will have."""
_READ_NBYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A finished file: its bytes and `sha256:...` of them all."""

    nbytes: int
    sha256: str


class KeptFile:
    """A kept model on its way to disk: a temporary file that gets its name when it is whole.

    Used as a context manager; left before `finish`, it leaves nothing behind. Entries are written
    one after the other: `begin`, `append` as often as needed.
    """

    def __init__(self, path: Path, entries: Sequence[str], metadata: Mapping[str, str]) -> None:
        """Create the temporary file beside `path` and leave room for the header.

        `entries` are the names of all entries; `metadata` is as long as it will be in the end.
        Raises `UsageError` for a header beyond `MAX_HEADER_NBYTES`, `RoomError` where the disk
        refuses.
        """
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        widest = dict.fromkeys(entries, (_LONGEST_OFFSET, _LONGEST_OFFSET))
        need = _LENGTH_NBYTES + len(_header(widest, metadata))
        self._room = -(-need // _ALIGNMENT) * _ALIGNMENT - _LENGTH_NBYTES
        if self._room > MAX_HEADER_NBYTES:
            raise UsageError(
                f"{shown(path.name)}: {len(entries):,} tensors and files need a header of "
                f"{human_bytes(self._room)}, and {human_bytes(MAX_HEADER_NBYTES)} is the most a "
                "kept model may have; keep the model's own folder instead"
            )
        self._spans: dict[str, tuple[int, int]] = {}
        self._name = ""
        self._nbytes = 0
        with self._clear_errors():
            self._file = self._temporary.open("w+b", buffering=0)
            self._file.seek(_LENGTH_NBYTES + self._room)

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file and remove it unless `finish` gave it its name."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def begin(self, name: str) -> None:
        """Let an entry begin where the one before it ends."""
        self._name = name
        self._spans[name] = (self._nbytes, self._nbytes)

    def append(self, data: bytes) -> None:
        """Write the next bytes of the entry that was begun."""
        view = memoryview(data)
        with self._clear_errors():
            while view:
                view = view[self._file.write(view) :]
        self._nbytes += len(data)
        self._spans[self._name] = (self._spans[self._name][0], self._nbytes)

    def finish(self, metadata: Mapping[str, str]) -> FileDigest:
        """Write the header, make the file durable and visible under its name, and digest it."""
        header = _header(self._spans, metadata)
        assert len(header) <= self._room  # noqa: S101 -- the entries and metadata announced
        text = self._room.to_bytes(_LENGTH_NBYTES, "little") + header.ljust(self._room)
        with self._clear_errors():
            os.pwrite(self._file.fileno(), text, 0)
            os.fsync(self._file.fileno())
            digest = self._digest()
            self._file.close()
            self._temporary.rename(self._path)
            sync_folder(self._path.parent)
        return digest

    def _digest(self) -> FileDigest:
        self._file.seek(0)
        sha256, nbytes = hashlib.sha256(), 0
        block = memoryview(bytearray(_READ_NBYTES))
        while n := self._file.readinto(block):
            sha256.update(block[:n])
            nbytes += n
        return FileDigest(nbytes, "sha256:" + sha256.hexdigest())

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RoomError(
                f"cannot write {shown(self._path.name)} ({human_bytes(self._nbytes)} so far): "
                f"{error.strerror}; make room or name another place"
            ) from error


def _header(spans: Mapping[str, tuple[int, int]], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    for name, (begin, end) in spans.items():
        size = max(end - begin, end if end == _LONGEST_OFFSET else 0)
        entries[name] = {"dtype": "U8", "shape": [size], "data_offsets": [begin, end]}
    return json.dumps(entries, separators=(",", ":")).encode("ascii")
