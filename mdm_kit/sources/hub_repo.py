"""A repository of the Hub at one commit: its files, here in the client's cache or far away.

The revision is resolved once, when something is first asked; from then on only the commit is asked
for. Offline (`HF_HUB_OFFLINE=1`) the cache stands in for the Hub.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, MdmError, SourceError
from mdm_kit.sources.hub_cache import cached_commit, cached_files, remember, repo_folder
from mdm_kit.sources.hub_failures import not_cached, patiently, told_by_hub
from mdm_kit.sources.hub_file import Client, HubFile
from mdm_kit.sources.hub_listing import Listed, listed
from mdm_kit.sources.hub_names import COMMIT, is_repo_id, is_revision
from mdm_kit.sources.hub_standing import standing_of
from mdm_kit.sources.identity import is_as_listed
from mdm_kit.sources.seam import Standing
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEPT_SMALL_NBYTES = 1_000_000
"""Configurations are asked for more than once, tokenizers once."""

API_TIMEOUT_S = 30.0
"""How long the Hub may take to list a repository with thousands of files."""


@dataclass(frozen=True, slots=True)
class _Pinned:
    """The one commit everything is read from, and its files."""

    commit: str
    files: Mapping[str, Listed]
    standing: Standing


class HubRepo:
    """A repository at a revision, called `name` in errors; safe to use from several threads.

    With `downloads` whatever is read goes through the client's cache, whole.
    """

    def __init__(
        self, name: str, repo_id: str, revision: str | None = None, *, downloads: bool = False
    ) -> None:
        """Take the repository's id and revision, `main` if none is given; ask nobody yet.

        Raises `SourceError` for what cannot exist.
        """
        if not is_repo_id(repo_id):
            raise SourceError(
                f"{at(name)}: expected a repository id such as owner/name, found "
                f"'{shown(repo_id)}'; check the spelling"
            )
        self.name = name
        self.id = repo_id
        self.downloads = downloads
        self._revision = revision or "main"
        if not is_revision(self._revision):
            raise SourceError(
                f"{at(name)}: expected a branch, tag or commit, found '{shown(self._revision)}'"
            )
        self._pin: _Pinned | None = None
        self._lock = threading.Lock()
        self._far: dict[str, HubFile] = {}
        self._small: dict[str, bytes] = {}

    @property
    def commit(self) -> str:
        """The commit (40 hex digits); asks the Hub the first time."""
        return self._pinned().commit

    @property
    def standing(self) -> Standing:
        """Licence, gate and visibility as the Hub states them."""
        return self._pinned().standing

    @property
    def files(self) -> Mapping[str, Listed]:
        """The files of the commit by name; offline, those in the cache."""
        return self._pinned().files

    def called(self, name: str) -> HubRepo:
        """Return the same commit under another name, without asking the Hub again."""
        other = HubRepo(name, self.id, self._revision)
        other._pin = self._pinned()
        return other

    def size(self, file: str) -> int:
        """Return a listed file's size in bytes."""
        size = self.files[file].size
        if size is None:
            raise SourceError(
                f"{at(self.name, file)}: expected its size from the Hub, found none; "
                "check HF_ENDPOINT"
            )
        return size

    def small(self, file: str, limit: int) -> bytes:
        """Return all bytes of a listed file, from the cache or without leaving anything there.

        Raises `IntegrityError` for more than `limit` and for others than those listed.
        """
        size = self.size(file)
        if size > limit:
            raise IntegrityError(
                f"{at(self.name, file)}: expected at most {limit:,} bytes, found {size:,}; "
                "this is not what its name says"
            )
        if self.downloads or self.is_here(file):
            return self.copy(file).read_bytes()
        data = self._small.get(file)
        if data is None:
            data = self._small_from_afar(file, size)
            if size <= KEPT_SMALL_NBYTES:
                self._small[file] = data
        return data

    def _small_from_afar(self, file: str, size: int) -> bytes:
        data = bytearray(size)
        if size:
            self.far(file).fetch(0, memoryview(data))
        listed = self.files[file]
        if not is_as_listed(bytes(data), sha256=listed.sha256, oid=listed.oid):
            raise IntegrityError(
                f"{at(self.name, file)}: expected the bytes with the digest the Hub lists, found "
                "others; a proxy on the way may be at fault, try again or elsewhere"
            )
        return bytes(data)

    def far(self, file: str) -> HubFile:
        """Return a listed file as one that is read in parts."""
        with self._lock:
            far = self._far.get(file)
        if far is None:
            far = self._far_file(file)
            with self._lock:
                far = self._far.setdefault(file, far)
        return far

    def _far_file(self, file: str) -> HubFile:
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # lazy

        def told(error: Exception) -> MdmError | None:
            return told_by_hub(error, self.name, self.id, self._revision)

        headers = build_hf_headers(library_name="mdm_kit")
        return HubFile(
            Client(get_session(), headers, hf_raise_for_status, told),
            hf_hub_url(self.id, file, revision=self.commit),
            source=self.name,
            file=file,
            size=self.size(file),
            sha256=self.files[file].sha256,
        )

    def is_here(self, file: str) -> bool:
        """Whether a file is on this machine, or never will be."""
        return is_offline() or self._cached(file) is not None

    def copy(self, file: str) -> Path:
        """Return a listed file's real path in the cache, downloaded if it is not there.

        Raises `IntegrityError` for a copy of another size.
        """
        path = self._cached(file)
        if path is None:
            path = self._downloaded(file)
        path, size = path.resolve(), self.size(file)
        if path.stat().st_size != size:
            raise self.wrong_copy(file, f"{size:,} bytes", f"{path.stat().st_size:,}")
        return path

    def _downloaded(self, file: str) -> Path:
        if is_offline():
            raise self.absent(file)
        from huggingface_hub import hf_hub_download

        with self._told():
            path = hf_hub_download(self.id, file, revision=self.commit, library_name="mdm_kit")
        remember(self._cache_folder(), self._revision, self.commit)
        return Path(path)

    def _cached(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.id, file, revision=self.commit)
        return Path(path) if isinstance(path, str) else None

    def absent(self, file: str | None = None) -> SourceError:
        """Return the error for what is needed offline and not in the cache."""
        return not_cached(self.name, self.id, file)

    def wrong_copy(self, file: str, expected: str, found: str) -> IntegrityError:
        """Return the error for a damaged copy in the cache."""
        return IntegrityError(
            f"{at(self.name, file)}: expected {expected} in the Hugging Face cache, found {found}; "
            f"remove the damaged copy with `hf cache rm model/{shown(self.id)}` and run again"
        )

    def _cache_folder(self) -> Path:
        from huggingface_hub import constants

        return repo_folder(Path(constants.HF_HUB_CACHE).expanduser(), self.id)

    def _pinned(self) -> _Pinned:
        with self._lock:
            if self._pin is None:
                self._pin = self._cached_pin() if is_offline() else self._online_pin()
            return self._pin

    def _cached_pin(self) -> _Pinned:
        folder = self._cache_folder()
        commit = cached_commit(folder, self._revision)
        files = cached_files(folder, commit) if commit else {}
        if commit is None or not files:
            raise self.absent()
        return _Pinned(commit, files, Standing(known=False))

    def _online_pin(self) -> _Pinned:
        from huggingface_hub import HfApi

        api = HfApi(library_name="mdm_kit")
        with self._told():
            info = patiently(
                lambda: api.model_info(
                    self.id, revision=self._revision, files_metadata=True, timeout=API_TIMEOUT_S
                )
            )
        # A commit is the same under any name; behind a branch somebody else's model may stand soon.
        if info.id != self.id and not COMMIT.fullmatch(self._revision):
            raise SourceError(
                f"{at(self.name)}: {shown(self.id)} is called '{shown(info.id)}' now; write that"
            )
        commit = info.sha or ""
        if not COMMIT.fullmatch(commit):
            raise SourceError(
                f"{at(self.name)}: expected a commit id of 40 hex digits from the Hub, found "
                f"'{shown(commit)}'; check HF_ENDPOINT"
            )
        files = {s.rfilename: listed(s) for s in info.siblings or ()}
        return _Pinned(commit, files, standing_of(info, self.id))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the client's exceptions into ours, without their URLs."""
        try:
            yield
        except MdmError:
            raise
        except Exception as error:
            told = told_by_hub(error, self.name, self.id, self._revision)
            if told is None:
                raise
            raise told from None


def is_offline() -> bool:
    """Return whether the client was told to do without a network."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE
