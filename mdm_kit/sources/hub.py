"""A model on the Hugging Face Hub: pinned to one commit, read by range, kept nowhere.

A branch that moves cannot mix two models. A weight file that is in the client's cache is read from
there.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from mdm_kit.errors import MdmError, UsageError
from mdm_kit.sources.checkpoint import names_other_form
from mdm_kit.sources.hub_repo import HubRepo, is_offline
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.open_files import OpenFiles
from mdm_kit.sources.safetensors_header import LENGTH_BYTES, header_length, parse_header
from mdm_kit.sources.seam import CheckpointFile, Origin, Standing
from mdm_kit.sources.side_files import allowed
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    from pathlib import Path

    from mdm_kit.sources.checkpoint import Layout
    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.safetensors_header import Header
    from mdm_kit.sources.streams import Streams

FIRST_NBYTES = 100_000
"""How much of a shard the first request asks for: holds the headers of nearly every model."""
HEADERS_NBYTES = 600_000
"""How much the first requests to all shards of a model ask for together, at most, but for"""
LEAST_FIRST_NBYTES = 4_000
"""of each shard: about thirty tensors."""


class HubSource(StoredSource):
    """A model repository at a revision, `main` if none is given."""

    def __init__(
        self, name: str, repo_id: str, revision: str | None = None, *, download: bool = False
    ) -> None:
        """Take the repository's id and revision; ask nobody yet.

        With `download` weight files go through the client's cache, whole. Raises `SourceError`
        for what cannot exist.
        """
        super().__init__(name)
        self._repo = HubRepo(name, repo_id, revision, downloads=download)
        self._paths_lock = threading.Lock()
        self._file_locks: dict[str, threading.Lock] = {}
        self._paths: dict[str, Path | None] = {}
        self._headers: dict[str, Header] = {}
        self._streams: Streams | None = None
        self._closed = False
        self._files = OpenFiles(name, self._local)

    @classmethod
    def of(cls, repo: HubRepo) -> HubSource:
        """Return the model of a repository whose commit is known already."""
        source = cls(repo.name, repo.id)
        source._repo = repo
        return source

    def origin(self) -> Origin:
        """Return repository and commit; asks the Hub for the commit the first time."""
        return Origin("hub", repo=self._repo.id, commit=self._repo.commit)

    def standing(self) -> Standing:
        """Return licence, gate and visibility as the Hub states them."""
        return self._repo.standing

    def side_digest(self, name: str) -> str | None:
        """Return what the Hub declares of a side file, None if the model has none of that name."""
        listed = self._repo.files.get(allowed(name))
        if listed is None:
            return None
        return listed.sha256 or listed.oid or super().side_digest(name)

    def witness(self) -> str:
        """Return a digest of repository and commit: what a commit holds never changes."""
        return digest_of(["hub", self._repo.id, self._repo.commit])

    def fingerprint(self) -> str:
        """Return the digest of repository and commit, without a download."""
        return digest_of({"repo": self._repo.id, "commit": self._repo.commit})

    def close(self) -> None:
        """Close every file; the cache keeps those that are in it."""
        self._closed = True
        self._files.close()

    def _names(self) -> list[str]:
        return list(self._repo.files)

    def _layout(self, present: frozenset[str]) -> Layout:
        try:
            return super()._layout(present)
        except MdmError:
            # Offline the weights may be missing here and not there, unless another form was cached.
            if is_offline() and not any(names_other_form(name) for name in present):
                raise self._repo.absent() from None
            raise

    def _shards(self, wanted: tuple[str, ...], present: frozenset[str]) -> list[str]:
        missing = [file for file in wanted if file not in present]
        if missing and is_offline():  # absent here, not from the model
            raise self._repo.absent(missing[0])
        return super()._shards(wanted, present)

    def _small_file(self, name: str, limit: int) -> bytes:
        return self._repo.small(name, limit)

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        size, sha256 = self._repo.size(file), self._repo.files[file].sha256
        if self._repo.is_here(file):
            facts, header = self._described(file, size, sha256=sha256)
        else:
            header = self._remote_header(file, size)
            facts = CheckpointFile(file, size, header.nbytes, header.sha256, sha256, in_cache=False)
        self._headers[file] = header
        return facts, header

    def _remote_header(self, file: str, size: int) -> Header:
        """Return a header by one ranged request, by two if it is long. No weight is downloaded."""
        far = self._repo.far(file)
        prefix = bytearray(min(self._first_nbytes(), size))
        if prefix:
            far.fetch(0, memoryview(prefix))
        n = LENGTH_BYTES + header_length(self.name, file, bytes(prefix[:LENGTH_BYTES]), size)
        if n > len(prefix):
            rest = bytearray(n - len(prefix))
            far.fetch(len(prefix), memoryview(rest))
            prefix += rest
        header = parse_header(self.name, file, bytes(prefix[:n]), size)
        far.arrived(0, memoryview(prefix)[:n])
        return header

    def _first_nbytes(self) -> int:
        """Return how much of a shard the first request asks for; of many shards, less of each."""
        shards = sum(name.endswith(".safetensors") for name in self._repo.files)
        return max(LEAST_FIRST_NBYTES, min(FIRST_NBYTES, HEADERS_NBYTES // max(1, shards)))

    @property
    def is_far(self) -> bool:
        """Whether some weights are not on this machine and are fetched as they are read."""
        return not all(file.in_cache for file in self.headers().files) and not self._repo.downloads

    def fetch_through(self, streams: Streams | None) -> None:
        """Read what is far through `streams` from now on."""
        self._streams = streams

    def _expect_at(self, file: str, offset: int, nbytes: int) -> None:
        if self._streams is not None and self._path_of(file) is None:
            self._streams.expect(self._repo.far(file), offset, offset + nbytes)

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        if self._path_of(file) is not None:
            self._files.read_into(file, view, offset)
            return
        loan = self._lend_far(file, offset, len(view))
        if loan is None:
            self._repo.far(file).fetch(offset, view)
            return
        try:
            view[:] = loan.view()
        finally:
            loan.release()

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:
        if self._path_of(file) is not None:
            return self._files.lend(file, offset, nbytes)
        return self._lend_far(file, offset, nbytes)

    def _lend_far(self, file: str, offset: int, nbytes: int) -> Loan | None:
        """Lend bytes that were announced, None for others."""
        if self._streams is None:
            return None
        return self._streams.borrow(self._repo.far(file), offset, offset + nbytes)

    def seen_digest(self, file: str) -> str | None:
        """Return the sha256 (hex) of a far file all of whose bytes came by, else None."""
        return self._repo.far(file).digest

    def _path_of(self, file: str) -> Path | None:
        """Return where a file lies on this machine, None for one that is read from afar."""
        if self._closed:
            raise UsageError(f"{at(self.name, file)} was closed; open it again to read")
        with self._paths_lock:
            if file in self._paths:
                return self._paths[file]
        here = self._repo.downloads or self._repo.is_here(file)
        path = self._local(file) if here else None
        with self._paths_lock:
            return self._paths.setdefault(file, path)

    def _local(self, file: str) -> Path:
        """Return where a weight file lies, downloaded once and compared with what was surveyed."""
        with self._paths_lock:
            lock = self._file_locks.setdefault(file, threading.Lock())
        with lock:
            path = self._repo.copy(file)
            if file in self._headers:
                self._same_header(file, path)
            return path

    def _same_header(self, file: str, path: Path) -> None:
        """Raise unless the downloaded file begins with the header read before it was there."""
        header = self._headers[file]
        with path.open("rb") as copy:
            found = hashlib.sha256(copy.read(header.nbytes)[LENGTH_BYTES:]).hexdigest()
        if found != header.sha256:
            raise self._repo.wrong_copy(file, "the header read before the download", "another")
