"""A model on the Hugging Face Hub: pinned to one commit, headers by range, weights by the cache.

The revision is resolved once; from then on only the commit is asked for, so a branch that moves
cannot mix two models. Offline (`HF_HUB_OFFLINE=1`) the cache stands in for the Hub.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, MdmError, SourceError
from mdm_kit.sources.checkpoint import names_other_form
from mdm_kit.sources.hub_cache import HubFile, cached_commit, cached_files, remember, repo_folder
from mdm_kit.sources.hub_failures import not_cached, patiently, told_by_hub
from mdm_kit.sources.hub_names import COMMIT, is_repo_id, is_revision
from mdm_kit.sources.hub_range import fetch_range
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.open_files import OpenFiles
from mdm_kit.sources.safetensors_header import LENGTH_BYTES, header_length, parse_header
from mdm_kit.sources.seam import CheckpointFile, Origin
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mdm_kit.sources.checkpoint import Layout
    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.safetensors_header import Header

FIRST_BYTES = 100_000
"""How much of a shard the first request asks for: holds the headers of nearly every model."""

API_TIMEOUT_S = 30.0
"""How long the Hub may take to list a repository with thousands of files."""


@dataclass(frozen=True, slots=True)
class _Pinned:
    """The one commit everything is read from, and its files."""

    commit: str
    files: Mapping[str, HubFile]


class HubSource(StoredSource):
    """A model repository at a revision, `main` if none is given."""

    def __init__(self, name: str, repo_id: str, revision: str | None = None) -> None:
        """Take the repository's id and revision; ask nobody yet.

        Raises `SourceError` if one of them cannot exist.
        """
        super().__init__(name)
        if not is_repo_id(repo_id):
            raise SourceError(
                f"{at(name)}: expected a repository id such as owner/name, found "
                f"'{shown(repo_id)}'; check the spelling"
            )
        self._repo = repo_id
        self._revision = revision or "main"
        if not is_revision(self._revision):
            raise SourceError(
                f"{at(name)}: expected a branch, tag or commit, found '{shown(self._revision)}'"
            )
        self._pin: _Pinned | None = None
        self._pin_lock = threading.Lock()
        self._file_locks: dict[str, threading.Lock] = {}
        self._headers: dict[str, Header] = {}
        self._paths: dict[str, Path] = {}
        self._files = OpenFiles(name, self._local)

    def origin(self) -> Origin:
        """Return repository and commit; asks the Hub for the commit the first time."""
        return Origin("hub", repo=self._repo, commit=self._pinned().commit)

    def witness(self) -> str:
        """Return a digest of repository and commit: what a commit holds never changes."""
        return digest_of(["hub", self._repo, self._pinned().commit])

    def fingerprint(self) -> str:
        """Return the digest of repository and commit, without a download."""
        return digest_of({"repo": self._repo, "commit": self._pinned().commit})

    def close(self) -> None:
        """Close every file; the cache keeps them."""
        self._files.close()

    def _pinned(self) -> _Pinned:
        with self._pin_lock:
            if self._pin is None:
                self._pin = self._cached_pin() if _offline() else self._online_pin()
            return self._pin

    def _online_pin(self) -> _Pinned:
        from huggingface_hub import HfApi

        api = HfApi(library_name="mdm_kit")
        with self._told():
            info = patiently(
                lambda: api.model_info(
                    self._repo,
                    revision=self._revision,
                    files_metadata=True,
                    timeout=API_TIMEOUT_S,
                )
            )
        commit = info.sha or ""
        if not COMMIT.fullmatch(commit):
            raise SourceError(
                f"{at(self.name)}: expected a commit id of 40 hex digits from the Hub, found "
                f"'{shown(commit)}'; check HF_ENDPOINT"
            )
        files = {
            s.rfilename: HubFile(s.lfs.size if s.lfs else s.size, s.lfs.sha256 if s.lfs else None)
            for s in info.siblings or ()
        }
        return _Pinned(commit, files)

    def _cached_pin(self) -> _Pinned:
        folder = self._cache_folder()
        commit = cached_commit(folder, self._revision)
        files = cached_files(folder, commit) if commit else {}
        if commit is None or not files:
            raise not_cached(self.name, self._repo)
        return _Pinned(commit, files)

    def _names(self) -> list[str]:
        return list(self._pinned().files)

    def _layout(self, present: frozenset[str]) -> Layout:
        try:
            return super()._layout(present)
        except MdmError:
            # Offline the weights may be missing here and not there, unless another form was cached.
            if _offline() and not any(names_other_form(name) for name in present):
                raise not_cached(self.name, self._repo) from None
            raise

    def _shards(self, wanted: tuple[str, ...], present: frozenset[str]) -> list[str]:
        missing = [file for file in wanted if file not in present]
        if missing and _offline():  # absent here, not from the model
            raise not_cached(self.name, self._repo, missing[0])
        return super()._shards(wanted, present)

    def _small_file(self, name: str, limit: int) -> bytes:
        size = self._size(name)
        if size > limit:
            raise IntegrityError(
                f"{at(self.name, name)}: expected at most {limit:,} bytes, found {size:,}; "
                "this is not what its name says"
            )
        data = self._fetched(name).read_bytes()
        if len(data) != size:
            raise self._wrong_copy(name, f"{size:,} bytes", f"{len(data):,}")
        return data

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        size, sha256 = self._size(file), self._pinned().files[file].sha256
        if self._cached(file) is not None:
            facts, header = self._described(file, size, sha256=sha256)
        else:
            header = self._remote_header(file, size)
            facts = CheckpointFile(file, size, header.nbytes, header.sha256, sha256, in_cache=False)
        self._headers[file] = header
        return facts, header

    def _remote_header(self, file: str, size: int) -> Header:
        """Return a header by one ranged request, by two if it is long. No weight is downloaded."""
        prefix = self._ranged(file, (0, min(FIRST_BYTES, size)), size) if size else b""
        length = LENGTH_BYTES + header_length(self.name, file, prefix[:LENGTH_BYTES], size)
        if length > len(prefix):
            prefix += self._ranged(file, (len(prefix), length), size)
        return parse_header(self.name, file, prefix[:length], size)

    def _ranged(self, file: str, span: tuple[int, int], size: int) -> bytes:
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # lazy

        url = hf_hub_url(self._repo, file, revision=self._pinned().commit)
        with self._told():
            return patiently(
                lambda: fetch_range(
                    get_session(),
                    url,
                    build_hf_headers(library_name="mdm_kit"),
                    hf_raise_for_status,
                    source=self.name,
                    file=file,
                    span=span,
                    size=size,
                )
            )

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        self._files.read_into(file, view, offset)

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:
        return self._files.lend(file, offset, nbytes)

    def _local(self, file: str) -> Path:
        """Return where a weight file lies, downloaded once and compared with what was surveyed."""
        with self._pin_lock:
            lock = self._file_locks.setdefault(file, threading.Lock())
        with lock:
            if file not in self._paths:
                path = self._fetched(file)
                size = self._size(file)
                if path.stat().st_size != size:
                    raise self._wrong_copy(file, f"{size:,} bytes", f"{path.stat().st_size:,}")
                if file in self._headers:
                    self._same_header(file, path)
                self._paths[file] = path
            return self._paths[file]

    def _same_header(self, file: str, path: Path) -> None:
        """Raise unless the downloaded file begins with the header read before it was there."""
        header = self._headers[file]
        with path.open("rb") as copy:
            found = hashlib.sha256(copy.read(header.nbytes)[LENGTH_BYTES:]).hexdigest()
        if found != header.sha256:
            raise self._wrong_copy(file, "the header read before the download", "another")

    def _fetched(self, file: str) -> Path:
        """Return a file's real path in the cache, downloading it if it is not there."""
        path = self._cached(file)
        if path is None:
            if _offline():
                raise not_cached(self.name, self._repo, file)
            from huggingface_hub import hf_hub_download

            commit = self._pinned().commit
            with self._told():
                path = Path(
                    hf_hub_download(self._repo, file, revision=commit, library_name="mdm_kit")
                )
            remember(self._cache_folder(), self._revision, commit)
        return path.resolve()

    def _cached(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self._repo, file, revision=self._pinned().commit)
        return Path(path) if isinstance(path, str) else None

    def _size(self, file: str) -> int:
        size = self._pinned().files[file].size
        if size is None:
            raise SourceError(
                f"{at(self.name, file)}: expected its size from the Hub, found none; "
                "check HF_ENDPOINT"
            )
        return size

    def _cache_folder(self) -> Path:
        from huggingface_hub import constants

        return repo_folder(Path(constants.HF_HUB_CACHE).expanduser(), self._repo)

    def _wrong_copy(self, file: str, expected: str, found: str) -> IntegrityError:
        return IntegrityError(
            f"{at(self.name, file)}: expected {expected} in the Hugging Face cache, found {found}; "
            f"remove the damaged copy with `hf cache rm model/{shown(self._repo)}` and run again"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the client's exceptions into ours, without their URLs."""
        try:
            yield
        except MdmError:
            raise
        except Exception as error:
            told = told_by_hub(error, self.name, self._repo, self._revision)
            if told is None:
                raise
            raise told from None


def _offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE
