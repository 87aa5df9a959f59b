"""Checks a finished merge against its manifest: every byte, or the digests its host declares."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mdm_kit.bundle.shard_file import digest_file
from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, MAX_MANIFEST_NBYTES, Manifest
from mdm_kit.ledger.products import LEDGER_NAME, MAX_LEDGER_NBYTES, Products
from mdm_kit.ledger.removal import Guarantee, Remade
from mdm_kit.sources import HubSite, JoinedSite, Site, SiteFile, is_side_file
from mdm_kit.words import TensorInfo, shown

LOADED = (".safetensors", ".bin", ".pt", ".pth", ".py", "adapter_config.json")
"""Endings and names of files that libraries load, or run, from a model's folder."""

MAX_UNDECLARED_NBYTES = 64 << 20
"""A file in plain git is downloaded up to this size; the Hub itself refuses more than 10 MB."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked, and every fault found; sound when there is none.

    `guarantees` says of each model how it can be taken out, where nothing was wrong; `remade` what
    making the merge again has shown, where that was asked for. `n_declared` files, of
    `nbytes_declared` bytes, were compared by the digests the Hub computed of them; every byte of
    all others was read.
    """

    manifest: Manifest
    n_tensors: int
    n_files: int
    nbytes: int
    faults: tuple[str, ...]
    guarantees: tuple[Guarantee, ...] = ()
    remade: Remade | None = None
    n_declared: int = 0
    nbytes_declared: int = 0

    @property
    def sound(self) -> bool:
        """Whether every digest fits."""
        return not self.faults


def read_manifest(site: Site) -> Manifest:
    """Return the manifest of a finished merge.

    Raises `SourceError` where there is none or it cannot be had, `IntegrityError` where the
    manifest does not hold together.
    """
    with told(site):
        if site.find(MANIFEST_NAME) is None:
            raise SourceError(
                f"{shown(site.name)} has no {MANIFEST_NAME}; only merges written by mdm_kit have "
                "one. Check the name, and the revision of a repository"
            )
        return Manifest.from_bytes(site.read(MANIFEST_NAME, MAX_MANIFEST_NBYTES))


def with_kept(site: Site, manifest: Manifest) -> Site:
    """Return the site with its kept models, which a published merge has in another repository."""
    if manifest.deltas is None:
        return site
    return JoinedSite(site, HubSite(manifest.deltas.repo, manifest.deltas.commit))


def read_products(site: Site, manifest: Manifest) -> Products:
    """Return the inner products a finished merge keeps, none where it has no ledger.

    Raises `IntegrityError` where the ledger is missing or is not the manifest's.
    """
    entry = manifest.ledger
    if entry is None:
        return Products()
    with told(site):
        if entry.file != LEDGER_NAME or site.find(entry.file) is None:
            raise IntegrityError(f"{shown(entry.file)}: is missing; get the original merge again")
        return Products.from_bytes(site.read(entry.file, MAX_LEDGER_NBYTES), entry)


@contextlib.contextmanager
def told(site: Site) -> Iterator[None]:
    """Turn what the system refuses inside the block into a `SourceError`."""
    try:
        yield
    except OSError as error:
        name = shown(Path(error.filename).name if error.filename else site.name)
        raise SourceError(f"{name} cannot be read: {error.strerror or error}") from None


def verify_files(site: Site, advance: Callable[[int], None] = lambda _: None) -> Verified:
    """Compare every file of a finished merge with the manifest.

    A file whose host declares a sha256 is compared by that; all others are read, once. `advance` is
    told the bytes compared. Faults are collected, not raised; a merge whose manifest cannot be read
    raises as `read_manifest` does, and a Hub that cannot be asked raises `SourceError`.
    """
    manifest = read_manifest(site)
    with told(site):
        return _verified(with_kept(site, manifest), manifest, advance)


def _verified(site: Site, manifest: Manifest, advance: Callable[[int], None]) -> Verified:
    entries = {**manifest.files, **manifest.shards}
    faults: list[str] = []
    present: dict[str, SiteFile] = {}
    for name, entry in entries.items():
        try:
            present[name] = _present(site, name, entry)
        except IntegrityError as fault:
            faults.append(str(fault))
    for name in [n for n in present if n in manifest.files]:
        faults += _check_whole(site, name, present[name], entries[name], advance)
    faults += _strangers(site, manifest)
    shards = {n: found for n, found in present.items() if n in manifest.shards}
    faults += _check_shards(site, manifest, shards, advance)
    declared = [found.nbytes for found in present.values() if found.sha256 is not None]
    return Verified(
        manifest=manifest,
        n_tensors=len(manifest.tensors),
        n_files=len(entries),
        nbytes=sum(e.nbytes for e in entries.values()),
        faults=tuple(faults),
        n_declared=len(declared),
        nbytes_declared=sum(declared),
    )


def _present(site: Site, name: str, entry: FileEntry) -> SiteFile:
    """Return a file as the site has it; raise `IntegrityError` for one that cannot be the entry."""
    found = site.find(name)
    if found is None:
        raise IntegrityError(f"{shown(name)}: is missing")
    if found.nbytes != entry.nbytes:
        raise IntegrityError(f"{shown(name)}: expected {entry.nbytes} bytes, found {found.nbytes}")
    if found.sha256 is None and site.folder is None and found.nbytes > MAX_UNDECLARED_NBYTES:
        raise IntegrityError(
            f"{shown(name)}: expected its sha256 from the Hub, found none, and {found.nbytes:,} "
            "bytes are too many to download for it; store it with Git LFS or Xet, or download the "
            "repository and verify the folder"
        )
    return found


def _check_whole(
    site: Site, name: str, found: SiteFile, entry: FileEntry, advance: Callable[[int], None]
) -> list[str]:
    if found.sha256 is None:
        return _differs(name, entry, digest_file(site.path(name), 0, [], advance).sha256)
    advance(entry.nbytes)
    return _differs(name, entry, f"sha256:{found.sha256}")


def _differs(name: str, entry: FileEntry, found: str) -> list[str]:
    if entry.sha256 == found:
        return []
    return [f"{shown(name)}: expected {entry.sha256}, found {found}; its bytes were changed"]


def _strangers(site: Site, manifest: Manifest) -> list[str]:
    """Name files a loader would read although they are no part of the merge."""
    known = {*manifest.shards, *manifest.files}
    return [
        f"{shown(name)}: is a file the manifest does not know, and loaders would read it"
        for name in site.names()
        if name not in known
        and (is_side_file(name) or PurePosixPath(name).suffix in LOADED or name in LOADED)
    ]


def _check_shards(
    site: Site, manifest: Manifest, shards: Mapping[str, SiteFile], advance: Callable[[int], None]
) -> list[str]:
    try:
        with site.source(Path(site.name).name) as source:
            checkpoint = source.headers()
    except (IntegrityError, SourceError) as error:
        if (
            isinstance(error, SourceError)
            and site.folder is None
            and len(shards) == len(manifest.shards)
        ):
            raise  # everything is there, so it is the Hub that cannot be asked
        # Without headers nobody knows the tensors; the files' own digests still say which changed.
        return [str(error), *_check_unread(site, manifest, shards, advance)]
    headers = {f.name: f.header_nbytes for f in checkpoint.files}
    if not headers.keys() >= shards.keys():
        return _check_unread(site, manifest, shards, advance)
    faults = _check_tensor_list(manifest, checkpoint.tensors)
    for name, found in shards.items():
        tensors = [t for t in checkpoint.tensors.values() if t.file == name]
        if found.sha256 is not None:
            faults += _check_whole(site, name, found, manifest.shards[name], advance)
        else:
            faults += _check_tensors(site, manifest, name, headers[name], tensors, advance)
    return faults


def _check_tensors(
    site: Site,
    manifest: Manifest,
    name: str,
    header_nbytes: int,
    tensors: Sequence[TensorInfo],
    advance: Callable[[int], None],
) -> list[str]:
    """Read a shard, compare it and every tensor in it."""
    found = digest_file(site.path(name), header_nbytes, [t.nbytes for t in tensors], advance)
    faults = _differs(name, manifest.shards[name], found.sha256)
    for tensor, blake3 in zip(tensors, found.tensors, strict=True):
        entry = manifest.tensors.get(tensor.name)
        if entry is not None and entry.blake3 != blake3:
            faults.append(f"{shown(name)}: tensor {shown(tensor.name)} was changed")
    return faults


def _check_unread(
    site: Site, manifest: Manifest, shards: Mapping[str, SiteFile], advance: Callable[[int], None]
) -> list[str]:
    faults = []
    for name, found in shards.items():
        faults += _check_whole(site, name, found, manifest.shards[name], advance)
    return faults


def _check_tensor_list(manifest: Manifest, found: Mapping[str, TensorInfo]) -> list[str]:
    faults = []
    for name, entry in manifest.tensors.items():
        info = found.get(name)
        if info is None:
            faults.append(f"tensor {shown(name)} of the manifest is in no file")
        elif (list(info.shape), info.dtype, info.file) != (entry.shape, entry.dtype, entry.shard):
            faults.append(
                f"tensor {shown(name)}: expected {entry.dtype} {entry.shape} in "
                f"{shown(entry.shard)}, found {info.dtype} {list(info.shape)} in {shown(info.file)}"
            )
    faults += [
        f"tensor {shown(name)} is not in the manifest"
        for name in found
        if name not in manifest.tensors
    ]
    return faults
