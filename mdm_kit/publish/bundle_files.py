"""What of a merged folder is published: what its manifest lists, the manifest and the card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.run.side_files import CARD_NAME
from mdm_kit.sources import KEPT_FOLDER
from mdm_kit.sources.hub_listing import Listed
from mdm_kit.sources.identity import git_blob


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file to publish: name, size, sha256 in hex, and where it lies, or its bytes.

    A shard that was sent and deleted may lie nowhere.
    """

    name: str
    nbytes: int
    sha256: str
    content: Path | bytes
    is_large: bool = False

    @property
    def is_here(self) -> bool:
        """Whether its bytes can be had on this machine."""
        return isinstance(self.content, bytes) or self.content.is_file()

    def read(self) -> bytes:
        """Return the bytes of a file that is here."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def is_like(self, remote: Listed | None) -> bool:
        """Whether the Hub holds the very same bytes."""
        if remote is None or remote.size != self.nbytes:
            return False
        if remote.sha256 is not None:
            return remote.sha256 == self.sha256
        return self.is_here and remote.oid == git_blob(self.read())


def bundle_files(folder: Path, manifest: Manifest) -> list[BundleFile]:
    """Return the files of the merge, shards first; those of kept models are not among them.

    Raises `IntegrityError` where the card is missing.
    """
    shards = [_listed(folder, n, e, is_large=True) for n, e in manifest.shards.items()]
    listed = [_listed(folder, n, e) for n, e in manifest.files.items() if not is_kept(n)]
    card = folder / CARD_NAME
    if not card.is_file() or card.is_symlink():
        raise IntegrityError(
            f"{CARD_NAME}: is missing; get the original folder again, or merge anew"
        )
    small = {CARD_NAME: card.read_bytes(), MANIFEST_NAME: manifest.to_bytes()}
    return [*shards, *listed, *(of_bytes(name, data) for name, data in small.items())]


def kept_files(folder: Path, manifest: Manifest) -> list[BundleFile]:
    """Return the files that keep models whole, which have a repository of their own."""
    kept = [(name, entry) for name, entry in manifest.files.items() if is_kept(name)]
    return [_listed(folder, name, entry, is_large=True) for name, entry in kept]


def is_kept(name: str) -> bool:
    """Return whether a file of a merge is one that keeps a model."""
    return name.startswith(f"{KEPT_FOLDER}/")


def of_bytes(name: str, data: bytes) -> BundleFile:
    """Return a file that is made for the Hub."""
    return BundleFile(name, len(data), hashlib.sha256(data).hexdigest(), data)


def _listed(folder: Path, name: str, entry: FileEntry, *, is_large: bool = False) -> BundleFile:
    sha256 = entry.sha256.removeprefix("sha256:")
    return BundleFile(name, entry.nbytes, sha256, folder / name, is_large)
