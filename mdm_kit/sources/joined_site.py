"""A merge whose kept models lie elsewhere than its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mdm_kit.sources.seam import Source
    from mdm_kit.sources.site import Site, SiteFile

KEPT_FOLDER = "deltas"
"""Where a merge keeps its models, in its own folder or in the repository beside it."""


class JoinedSite:
    """The site `main`, with the files of its `deltas` folder from `beside`; see `site.Site`.

    A copy in a folder of this machine is nearer than the repository and is taken first.
    """

    def __init__(self, main: Site, beside: Site) -> None:
        """Take both; ask nobody yet."""
        self._main = main
        self._beside = beside

    @property
    def name(self) -> str:
        """The name of the merge's own site."""
        return self._main.name

    @property
    def folder(self) -> Path | None:
        """The folder of the merge itself."""
        return self._main.folder

    @property
    def pinned(self) -> str | None:
        """Repository and commit of the merge itself."""
        return self._main.pinned

    def names(self) -> list[str]:
        """Return the names at the merge's own top."""
        return list(self._main.names())

    def find(self, name: str) -> SiteFile | None:
        """Return a file from where it lies."""
        return self._of(name).find(name)

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes from where it lies."""
        return self._of(name).read(name, limit)

    def path(self, name: str) -> Path:
        """Return where a file can be read."""
        return self._of(name).path(name)

    def source(self, name: str) -> Source:
        """Return the merge's own weights."""
        return self._main.source(name)

    def _of(self, name: str) -> Site:
        if not name.startswith(f"{KEPT_FOLDER}/"):
            return self._main
        here = self._main.folder is not None and self._main.find(name) is not None
        return self._main if here else self._beside
