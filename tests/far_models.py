"""Folders that are read as if they were far away: in ranges, announced before, counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mdm_kit.sources import CheckpointFile, FolderSource, Header, Loan, Streams
from mdm_kit.sources.identity import fingerprint


class FarFile:
    """A file on disk that is fetched in parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fetched: list[tuple[int, int]] = []
        self.direct = 0
        self._lock = threading.Lock()

    def fetch(self, begin: int, into: memoryview, stopped: Callable[[], bool]) -> None:
        with self._lock:
            self.fetched.append((begin, begin + len(into)))
        with self.path.open("rb") as file:
            file.seek(begin)
            assert file.readinto(into) == len(into)

    def arrived(self, begin: int, data: memoryview) -> None:
        """Nothing: nobody asks for digests here."""


class FarFolder(FolderSource):
    """A model folder none of whose weights is on this machine; `unannounced` counts lapses."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, path)
        self.far_files = {p.name: FarFile(p) for p in path.glob("*.safetensors")}
        self.unannounced: list[tuple[str, int, int]] = []
        self.left_over = 0
        self._streams: Streams | None = None

    @property
    def nbytes_fetched(self) -> int:
        return sum(end - begin for f in self.far_files.values() for begin, end in f.fetched)

    @property
    def is_far(self) -> bool:
        return True

    def fetch_through(self, streams: Streams | None) -> None:
        if streams is None and self._streams is not None:
            held = self._streams._files
            self.left_over += sum(len(f.touches) + len(f.windows) for f in held.values())
        self._streams = streams

    def content_fingerprint(self) -> str:
        return fingerprint(self.headers().files, super()._read_at)

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        facts, header = super()._weight_file(file)
        return replace(facts, in_cache=False), header

    def _expect_at(self, file: str, offset: int, nbytes: int) -> None:
        if self._streams is not None:
            self._streams.expect(self.far_files[file], offset, offset + nbytes)

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:
        if self._streams is None:
            return None
        loan = self._streams.borrow(self.far_files[file], offset, offset + nbytes)
        if loan is None and nbytes:
            self.unannounced.append((file, offset, nbytes))
        return loan

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        loan = self._lend_at(file, offset, len(view))
        if loan is None:
            super()._read_at(file, view, offset)
            return
        view[:] = loan.view()
        loan.release()


def far(paths: Mapping[str, Path]) -> dict[str, FarFolder]:
    """Return far sources for references, to be `given` to a merge."""
    return {str(path): FarFolder(name, path) for name, path in paths.items()}
