"""A finished merge on the Hub, at one commit: listed there, read by range or from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.sources.hub import HubSource
from mdm_kit.sources.hub_repo import HubRepo, is_offline
from mdm_kit.sources.site import SiteFile

if TYPE_CHECKING:
    from pathlib import Path


class HubSite:
    """A model repository at a revision, `main` if none is given; see `site.Site`."""

    def __init__(self, repo_id: str, revision: str | None = None) -> None:
        """Take the repository's id and revision; ask nobody yet.

        Raises `SourceError` if one of them cannot exist.
        """
        self._repo = HubRepo(repo_id, repo_id, revision)

    @property
    def name(self) -> str:
        """The repository's id."""
        return self._repo.id

    @property
    def folder(self) -> Path | None:
        """None: it is on the Hub."""
        return None

    @property
    def pinned(self) -> str | None:
        """Repository and commit; asks the Hub the first time."""
        return f"{self._repo.id}@{self._repo.commit}"

    def names(self) -> list[str]:
        """Return the names of the files at the top, sorted; offline those in the cache."""
        return sorted(name for name in self._repo.files if "/" not in name)

    def find(self, name: str) -> SiteFile | None:
        """Return size and declared sha256; raises `SourceError` for what is not cached offline."""
        file = self._repo.files.get(name)
        if file is None and is_offline():  # absent here, not from the repository
            raise self._repo.absent(name)
        return None if file is None else SiteFile(self._repo.size(name), file.sha256)

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes; raises `IntegrityError` for more than `limit`."""
        return self._repo.small(name, limit)

    def path(self, name: str) -> Path:
        """Return where the cache keeps the file, downloaded if it was not there."""
        return self._repo.copy(name)

    def source(self, name: str) -> HubSource:
        """Return the repository's weights at the same commit, without asking for it again."""
        return HubSource.of(self._repo.called(name))
