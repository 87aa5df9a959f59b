"""How the Hub lists the files of a repository at a commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a repository at one commit, as the Hub lists it.

    `size` in bytes; `sha256` (hex) of a large file; `oid`, the git blob id of any other.
    """

    size: int | None
    sha256: str | None
    oid: str | None = None


def listed(entry: Any) -> Listed:
    """Return a file of the client's answer: of a repository's siblings, or of asked-for paths."""
    lfs = getattr(entry, "lfs", None)
    if lfs:
        return Listed(lfs.size, lfs.sha256)
    return Listed(getattr(entry, "size", None), None, getattr(entry, "blob_id", None))
