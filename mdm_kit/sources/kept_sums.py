"""The sums a finished merge keeps, as a source: one array for each role and tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.sources.checkpoint import joined
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.open_files import OpenFiles
from mdm_kit.sources.seam import Checkpoint, CheckpointFile, Origin
from mdm_kit.sources.stored import StoredSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.safetensors_header import Header


class KeptSums(StoredSource):
    """Files of sums on this machine; whoever opens them has compared their digests."""

    def __init__(self, name: str, files: Mapping[str, Path]) -> None:
        """Take the files by name; read nothing yet."""
        super().__init__(name)
        self._paths = dict(files)
        self._files = OpenFiles(name, lambda file: self._paths[file])

    def origin(self) -> Origin:
        """Return the folder of the first file, for this machine's eyes only."""
        first = next(iter(self._paths.values()), None)
        return Origin("kept", path=None if first is None else str(first.parent))

    def witness(self) -> str:
        """Return a digest over each file's name, size, time and inode."""
        stamps = [(name, path.stat()) for name, path in self._paths.items()]
        return digest_of([[n, s.st_size, s.st_mtime_ns, s.st_ino] for n, s in stamps])

    def close(self) -> None:
        """Close every file."""
        self._files.close()

    def _names(self) -> Iterable[str]:
        return self._paths

    def _survey(self) -> Checkpoint:
        return joined([self._weight_file(name) for name in self._paths])

    def _small_file(self, name: str, limit: int) -> bytes:  # noqa: ARG002
        raise KeyError(name)  # there is none

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        return self._described(file, self._files.size(file))

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        self._files.read_into(file, view, offset)

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:
        return self._files.lend(file, offset, nbytes)
