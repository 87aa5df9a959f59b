"""Checks a merged folder against its manifest, byte by byte."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mdm_kit.bundle.shard_file import digest_file
from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, MAX_MANIFEST_NBYTES, Manifest
from mdm_kit.ledger.products import LEDGER_NAME, MAX_LEDGER_NBYTES, Products
from mdm_kit.ledger.removal import Guarantee, Remade
from mdm_kit.sources import FolderSource, is_side_file
from mdm_kit.words import TensorInfo, shown

LOADED = (".safetensors", ".bin", ".pt", ".pth", ".py", "adapter_config.json")
"""Endings and names of files that libraries load, or run, from a model's folder."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked, and every fault found; sound when there is none.

    `guarantees` says of each model how it can be taken out, where nothing was wrong; `remade` what
    making the merge again has shown, where that was asked for.
    """

    manifest: Manifest
    n_tensors: int
    n_files: int
    nbytes: int
    faults: tuple[str, ...]
    guarantees: tuple[Guarantee, ...] = ()
    remade: Remade | None = None

    @property
    def sound(self) -> bool:
        """Whether every digest fits."""
        return not self.faults


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a merged folder.

    Raises `SourceError` where there is no such folder or no manifest in it, `IntegrityError` where
    the manifest does not hold together.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise SourceError(f"there is no folder {shown(str(folder))}; check the path")
    if not path.is_file():
        raise SourceError(
            f"{shown(str(folder))} has no {MANIFEST_NAME}; only folders written by mdm_kit have one"
        )
    with told(folder), path.open("rb") as file:
        raw = file.read(MAX_MANIFEST_NBYTES + 1)
    return Manifest.from_bytes(raw)


def read_products(folder: Path, manifest: Manifest) -> Products:
    """Return the inner products a merged folder keeps, none where it has no ledger.

    Raises `IntegrityError` where the ledger is missing or is not the manifest's.
    """
    entry = manifest.ledger
    if entry is None:
        return Products()
    path = folder / entry.file
    if entry.file != LEDGER_NAME or not path.is_file():
        raise IntegrityError(f"{shown(entry.file)}: is missing; get the original folder again")
    if path.stat().st_size > MAX_LEDGER_NBYTES:
        raise IntegrityError(f"{LEDGER_NAME}: expected at most {MAX_LEDGER_NBYTES:,} bytes")
    with told(folder):
        return Products.from_bytes(path.read_bytes(), entry)


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block into a `SourceError`."""
    try:
        yield
    except OSError as error:
        name = shown(Path(error.filename).name if error.filename else str(folder))
        raise SourceError(f"{name} cannot be read: {error.strerror or error}") from None


def verify_folder(folder: Path, advance: Callable[[int], None] = lambda _: None) -> Verified:
    """Read every file of a merged folder once and compare it with the manifest.

    `advance` is told the bytes read. Faults are collected, not raised; a folder whose manifest
    cannot be read raises as `read_manifest` does.
    """
    manifest = read_manifest(folder)
    with told(folder):
        return _verified(folder, manifest, advance)


def _verified(folder: Path, manifest: Manifest, advance: Callable[[int], None]) -> Verified:
    faults: list[str] = []
    present: list[str] = []
    for name, entry in {**manifest.files, **manifest.shards}.items():
        if fault := _absent(folder, name, entry):
            faults.append(fault)
        elif name in manifest.shards:
            present.append(name)
        else:
            found = digest_file(folder / name, 0, [], advance)
            faults += _differs(name, entry.sha256, found.sha256)
    faults += _strangers(folder, manifest)
    faults += _check_shards(folder, manifest, present, advance)
    return Verified(
        manifest=manifest,
        n_tensors=len(manifest.tensors),
        n_files=len(manifest.files) + len(manifest.shards),
        nbytes=sum(e.nbytes for e in {**manifest.files, **manifest.shards}.values()),
        faults=tuple(faults),
    )


def _absent(folder: Path, name: str, entry: FileEntry) -> str | None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"{shown(name)}: lies outside of the folder"
    if not path.is_file():
        return f"{shown(name)}: is missing"
    if path.stat().st_size != entry.nbytes:
        return f"{shown(name)}: expected {entry.nbytes} bytes, found {path.stat().st_size}"
    return None


def _differs(name: str, expected: str, found: str) -> list[str]:
    if expected == found:
        return []
    return [f"{shown(name)}: expected {expected}, found {found}; its bytes were changed"]


def _strangers(folder: Path, manifest: Manifest) -> list[str]:
    """Name files a loader would read although they are no part of the merge."""
    known = {*manifest.shards, *manifest.files}
    return [
        f"{shown(path.name)}: is a file the manifest does not know, and loaders would read it"
        for path in sorted(folder.iterdir())
        if path.name not in known
        and (is_side_file(path.name) or path.suffix in LOADED or path.name in LOADED)
    ]


def _check_shards(
    folder: Path, manifest: Manifest, names: list[str], advance: Callable[[int], None]
) -> list[str]:
    try:
        with FolderSource(folder.name, folder) as source:
            checkpoint = source.headers()
    except (IntegrityError, SourceError) as error:
        # Without headers nobody knows the tensors; the files' own digests still say which changed.
        return [str(error), *_check_whole(folder, manifest, names, advance)]
    headers = {f.name: f.header_nbytes for f in checkpoint.files}
    if not headers.keys() >= set(names):
        return _check_whole(folder, manifest, names, advance)
    faults = _check_tensor_list(manifest, checkpoint.tensors)
    for name in names:
        tensors = [t for t in checkpoint.tensors.values() if t.file == name]
        found = digest_file(folder / name, headers[name], [t.nbytes for t in tensors], advance)
        fault = _differs(name, manifest.shards[name].sha256, found.sha256)
        faults += fault
        for tensor, blake3 in zip(tensors, found.tensors, strict=True):
            entry = manifest.tensors.get(tensor.name)
            if entry is not None and entry.blake3 != blake3:
                faults.append(f"{shown(name)}: tensor {shown(tensor.name)} was changed")
    return faults


def _check_whole(
    folder: Path, manifest: Manifest, names: list[str], advance: Callable[[int], None]
) -> list[str]:
    faults = []
    for name in names:
        found = digest_file(folder / name, 0, [], advance)
        faults += _differs(name, manifest.shards[name].sha256, found.sha256)
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
