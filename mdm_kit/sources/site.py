"""The seam for finished merges: what a folder and a repository can both say of their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mdm_kit.sources.seam import Source


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A file of a site: its size, and the sha256 (hex) that its host computed of its bytes.

    `sha256` is None where nobody but the reader can say: in a folder, in plain git.
    """

    nbytes: int
    sha256: str | None = None


class Site(Protocol):
    """Where a finished merge lies. Nothing is held open; what it says stays the same."""

    @property
    def name(self) -> str:
        """What to call it: a folder's path as it was given, `owner/name` of a repository."""

    @property
    def folder(self) -> Path | None:
        """The folder of this machine it is, None where it is none."""

    @property
    def pinned(self) -> str | None:
        """`owner/name@commit` of a repository, None for a folder."""

    def names(self) -> Iterable[str]:
        """Return the names at the top, sorted."""

    def find(self, name: str) -> SiteFile | None:
        """Return a file by its name, parts joined by `/`; None where there is none.

        Raises `IntegrityError` for a link that leaves the folder, `SourceError` where nobody can
        say (offline).
        """

    def read(self, name: str, limit: int) -> bytes:
        """Return all bytes of a file that `find` knows.

        Raises `IntegrityError` where there are more than `limit`, `SourceError` where it cannot be
        had.
        """

    def path(self, name: str) -> Path:
        """Return where on this machine a file that `find` knows can be read, whole.

        Downloads it if need be. Raises `SourceError` where it cannot be had.
        """

    def source(self, name: str) -> Source:
        """Return the merge's own weights as a source called `name`; whoever asks closes it."""
