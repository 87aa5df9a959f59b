"""A finished merge in a folder of this machine, a snapshot of the Hugging Face cache among them."""

from __future__ import annotations

import os
from pathlib import Path

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources.folder import FolderSource
from mdm_kit.sources.safe_path import inside
from mdm_kit.sources.site import SiteFile
from mdm_kit.words import shown


class FolderSite:
    """A folder; see `site.Site`. What the system refuses is raised as `OSError`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Take the folder at `path`; raises `SourceError` where there is none."""
        self._name = os.fspath(path)
        self._folder = Path(path)
        try:
            found = self._folder.is_dir()
        except ValueError:  # a NUL
            found = False
        if not found:
            raise SourceError(f"there is no folder {shown(self._name)}; check the path")

    @property
    def name(self) -> str:
        """The path as it was given."""
        return self._name

    @property
    def folder(self) -> Path | None:
        """The folder."""
        return self._folder

    @property
    def pinned(self) -> str | None:
        """None: a folder has no commits."""
        return None

    def names(self) -> list[str]:
        """Return the names of everything at the top, folders too, sorted."""
        return sorted(path.name for path in self._folder.iterdir())

    def find(self, name: str) -> SiteFile | None:
        """Return a file's size; raises `IntegrityError` for a link that leaves the folder."""
        try:
            path = inside(self.name, self._folder.resolve(), name)
        except IntegrityError:
            raise IntegrityError(f"{shown(name)}: lies outside of the folder") from None
        return SiteFile(path.stat().st_size) if path.is_file() else None

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes; raises `IntegrityError` for more than `limit`."""
        with self.path(name).open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise IntegrityError(f"{shown(name)}: expected at most {limit:,} bytes, found more")
        return data

    def path(self, name: str) -> Path:
        """Return the file's path."""
        return self._folder / name

    def source(self, name: str) -> FolderSource:
        """Return the folder's weights as a source."""
        return FolderSource(name, self._folder)
