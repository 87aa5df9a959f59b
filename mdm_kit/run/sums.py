"""Where sums of changes grow: in files of the work folder where they must stay, else in memory.

A file is mapped, so that the system holds as much of it in memory as there is room for. What it
holds of a tensor counts as there once the journal has its digest.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES
from mdm_kit.planner.layout import Shard
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.sums import SumArray, SumsFile, sums_files, sums_of
from mdm_kit.words import DTYPES

Arrays = dict[str, NDArray[np.generic]]
"""Sums of a tensor by role, flat."""


class Sums:
    """The sums of a merge's tensors."""

    def __init__(
        self,
        folder: Path | None,
        shards: Sequence[Shard],
        *,
        keeps: bool,
        most_nbytes: int = DEFAULT_MEMORY_NBYTES,
    ) -> None:
        """Find or make the files in `folder`; without one, or any shard, there are none.

        Arrays that are not kept lie in memory up to `most_nbytes` each.
        """
        self.keeps = keeps
        self._most_nbytes = most_nbytes
        self.files = list(sums_files(shards, keeps=keeps))
        self._folder = folder
        self._maps: dict[str, mmap.mmap] = {}
        self._place: dict[str, tuple[SumsFile, SumArray]] = {}
        self._entries: dict[str, list[str]] = {}
        if folder is None or not self.files:
            return
        folder.mkdir(exist_ok=True)
        for file in self.files:
            self._maps[file.name] = _mapped(folder / file.name, file)
            for entry, array in file.arrays.items():
                self._place[entry] = (file, array)
                self._entries.setdefault(array.tensor, []).append(entry)

    def path(self, file: SumsFile) -> Path:
        """Return where a file lies."""
        assert self._folder is not None  # noqa: S101 -- there is a file
        return self._folder / file.name

    def of(self, write: Write, *, passing: bool = False) -> Arrays:
        """Return the arrays of a tensor's sums: those of its file, or new ones of zeros.

        For sums that are `passing`, of no use once a tile is written, only those of its file.
        """
        found: Arrays = {}
        for array in sums_of(write, keeps=self.keeps):
            dtype = _dtype(array)
            if array.entry in self._place:
                found[array.role] = self._in_file(array.entry)
            elif not passing:
                found[array.role] = self._passing(array.nbytes).view(dtype)
        return found

    def _passing(self, nbytes: int) -> NDArray[np.uint8]:
        """Return zeros that go with whoever holds them, in a nameless file if they are many."""
        if nbytes <= self._most_nbytes or self._folder is None:
            return np.zeros(nbytes, np.uint8)
        self._folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            _reserve(file.fileno(), nbytes)
            return np.frombuffer(mmap.mmap(file.fileno(), nbytes), np.uint8)

    def _in_file(self, entry: str) -> NDArray[np.generic]:
        file, array = self._place[entry]
        begin, end = file.spans[entry]
        dtype = _dtype(array)
        count = (end - begin) // dtype.itemsize
        return np.frombuffer(self._maps[file.name], dtype, count, begin)

    def holds(self, tensor: str) -> bool:
        """Whether a file holds sums of the tensor."""
        return tensor in self._entries

    def settle(self, tensors: Collection[str]) -> dict[str, str]:
        """Bring what files hold of these tensors to disk; return a digest for each of them."""
        found, touched = {}, set()
        for tensor in tensors:
            entries = self._entries.get(tensor)
            if entries:
                found[tensor] = self._digest(entries)
                touched |= {self._place[entry][0].name for entry in entries}
        for name in touched:
            self._maps[name].flush()
        return found

    def intact(self, digests: Mapping[str, str]) -> set[str]:
        """Return which tensors' sums lie in files with these digests."""
        return {
            tensor
            for tensor, digest in digests.items()
            if (entries := self._entries.get(tensor)) and self._digest(entries) == digest
        }

    def _digest(self, entries: Sequence[str]) -> str:
        digest = blake3()
        for entry in entries:
            digest.update(self._in_file(entry).view(np.uint8).data)
        return digest.hexdigest()


def _dtype(array: SumArray) -> np.dtype[np.generic]:
    return np.dtype(DTYPES[array.dtype].torch_name)


def _mapped(path: Path, file: SumsFile) -> mmap.mmap:
    """Return a file of the right size, its header written, for reading and writing."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _reserve(handle, file.nbytes)
        os.pwrite(handle, file.header, 0)
        return mmap.mmap(handle, file.nbytes)
    finally:
        os.close(handle)


def _reserve(handle: int, nbytes: int) -> None:
    """Give a file its size; a full disk is an error here, and would be a signal later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, nbytes)
    os.ftruncate(handle, nbytes)
