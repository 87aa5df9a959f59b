"""A model kept in one file: its bits coded against its base's, its files as they were.

The weight files are virtual: their headers were kept as they were, and what lies behind is decoded
block by block when somebody reads it. So headers, fingerprint and sha256 are those of the original.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mdm_kit.errors import IntegrityError, SourceError, UsageError
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.kept_codec import BLOCK_ELEMENTS, END_NBYTES, decode_block, elements, n_blocks
from mdm_kit.sources.kept_container import Container
from mdm_kit.sources.kept_facts import HEAD, SIDE, TENSOR
from mdm_kit.sources.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES, parse_header
from mdm_kit.sources.seam import CheckpointFile, Origin
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from mdm_kit.maths.planes import Bytes
    from mdm_kit.sources.safetensors_header import Header
    from mdm_kit.sources.seam import Checkpoint, Source
    from mdm_kit.sources.streams import Streams
    from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class _Virtual:
    """A weight file that is decoded when read: its tensors, by offset, and where each begins."""

    header_nbytes: int
    tensors: tuple[TensorInfo, ...]
    begins: tuple[int, ...]


class _LastBlock(threading.local):
    """What a thread decoded last: whoever reads on reads the same block again."""

    def __init__(self) -> None:
        self.key: tuple[str, int] | None = None
        self.room = np.empty(0, np.uint8)


class KeptSource(StoredSource):
    """A kept model, read through its base. No message holds its path."""

    def __init__(self, name: str, path: str | os.PathLike[str], base: Source | None) -> None:
        """Take the file at `path` and read its header; `base` stays its owner's to close.

        Raises `SourceError` if there is no such file or if it needs a base and has none,
        `IntegrityError` if it is damaged. That the base is the right one is checked by `headers()`,
        for a base that must be downloaded when it first is.
        """
        super().__init__(name)
        self._container = Container(name, path)
        self._facts = self._container.facts
        self._base = base if self._facts.base else None
        self._virtual: dict[str, _Virtual] = {}
        self._last = _LastBlock()
        self._closed = False
        self._base_is_right = False
        if self._facts.base is not None and base is None:
            self.close()
            raise SourceError(
                f"{at(name, self._container.file)}: expected the base it is coded against, found "
                f"none; give the model with the fingerprint {self._facts.base.fingerprint}"
            )

    @property
    def base_fingerprint(self) -> str | None:
        """The fingerprint of the base it is coded against, as that reported it; None if alone."""
        return self._facts.base.fingerprint if self._facts.base else None

    @property
    def source_fingerprint(self) -> str:
        """The fingerprint the original reported, for a Hub model its repository's and commit's."""
        return self._facts.source.fingerprint

    @property
    def tensor_digests(self) -> Mapping[str, str]:
        """The BLAKE3 (hex) of each tensor's bytes as they were kept."""
        return {name: tensor.blake3 for name, tensor in self._facts.tensors.items()}

    def origin(self) -> Origin:
        """Return the file's real path, for this machine's eyes only."""
        return Origin("kept", path=str(self._container.path))

    def witness(self) -> str:
        """Return a digest over the file's real path, size, time and inode, and the base's own."""
        base = self._base.witness() if self._base else None
        return digest_of([*self._container.stamp(), base])

    @property
    def is_far(self) -> bool:
        """Whether the base it is decoded against is far."""
        return self._base is not None and self._base.is_far

    def fetch_through(self, streams: Streams | None) -> None:
        """Read a far base through `streams`."""
        if self._base is not None:
            self._base.fetch_through(streams)

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce the blocks of the base that decoding takes."""
        if self._base is None or not self._base.is_far:
            return
        if not self._facts.tensors[info.name].against_base:
            return
        size = BLOCK_ELEMENTS * elements(info)[1]
        in_base = self._in_base(self._base, info, at(self.name, self._container.file, info.name))
        for i in range(start // size, -(-(start + nbytes) // size)):
            self._base.expect(in_base, i * size, min(size, info.nbytes - i * size))

    def close(self) -> None:
        """Close the file; the base stays open."""
        self._closed = True
        self._container.close()

    def _names(self) -> list[str]:
        index = [] if self._facts.index is None else [self._facts.index]
        return [*self._facts.files, *index, *self._container.sides()]

    def _small_file(self, name: str, limit: int) -> bytes:
        return self._container.small((HEAD if name == self._facts.index else SIDE) + name, limit)

    def _survey(self) -> Checkpoint:
        checkpoint = super()._survey()
        if self._base is not None and all(f.in_cache for f in self._base.headers().files):
            self._check_base(self._base)
        return checkpoint

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        head = self._container.small(HEAD + file, LENGTH_BYTES + MAX_HEADER_BYTES)
        header = parse_header(self.name, file, head, self._facts.files[file])
        where = at(self.name, self._container.file)
        if header.nbytes != len(head):
            raise IntegrityError(
                f"{where}: expected the header of '{file}' in {header.nbytes:,} bytes, found "
                f"{len(head):,}; the file is damaged or hostile"
            )
        for info in header.tensors:
            entry = self._container.entries.get(TENSOR + info.name)
            if entry is None or entry.nbytes < n_blocks(info) * END_NBYTES:
                raise IntegrityError(
                    f"{at(self.name, self._container.file, info.name)}: expected "
                    f"{n_blocks(info):,} blocks, found {'less' if entry else 'none'}; "
                    "the file is damaged or hostile"
                )
        begins = tuple(info.span[0] for info in header.tensors)
        self._virtual[file] = _Virtual(header.nbytes, header.tensors, begins)
        size = self._facts.files[file]
        return CheckpointFile(file, size, header.nbytes, header.sha256, None, True), header

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        if self._closed:
            raise UsageError(f"{at(self.name, file)} was closed; open it again to read")
        if file not in self._virtual:
            self.headers()
        virtual = self._virtual[file]
        done = 0
        if offset < virtual.header_nbytes:
            head = self._container.small(HEAD + file, LENGTH_BYTES + MAX_HEADER_BYTES)
            part = head[offset : offset + len(view)]
            view[: len(part)] = part
            done = len(part)
        if done == len(view):
            return
        i = bisect_right(virtual.begins, offset + done) - 1
        while done < len(view):
            info = virtual.tensors[i]
            start = offset + done - info.span[0]
            part_nbytes = min(len(view) - done, info.nbytes - start)
            self._read_tensor(info, view[done : done + part_nbytes], start)
            done += part_nbytes
            i += 1

    def _read_tensor(self, info: TensorInfo, view: memoryview, start: int) -> None:
        size = BLOCK_ELEMENTS * elements(info)[1]
        done = 0
        while done < len(view):
            i, skip = divmod(start + done, size)
            block = self._block(info, i)
            n = min(len(view) - done, len(block) - skip)
            view[done : done + n] = block.data[skip : skip + n]
            done += n

    def _block(self, info: TensorInfo, i: int) -> Bytes:
        """Return the bytes of a tensor's block, valid until this thread asks for another."""
        n, width = elements(info)
        nbytes = min(BLOCK_ELEMENTS, n - i * BLOCK_ELEMENTS) * width
        last = self._last
        # What a far base was announced to give is taken from it, or it would be kept for ever.
        if last.key != (info.name, i) or self.is_far:
            last.key = None
            if len(last.room) < nbytes:
                last.room = np.empty(nbytes, np.uint8)
            self._decode(info, i, last.room[:nbytes])
            last.key = (info.name, i)
        return last.room[:nbytes]

    def _decode(self, info: TensorInfo, i: int, into: Bytes) -> None:
        where = at(self.name, self._container.file, info.name)
        block = self._container.block(info, i)
        if self._base is None or not self._facts.tensors[info.name].against_base:
            decode_block(block, None, info.dtype, into, where)
            return
        self._check_base(self._base)
        start = i * BLOCK_ELEMENTS * elements(info)[1]
        loan = self._base.lend(self._in_base(self._base, info, where), start, len(into))
        try:
            decode_block(block, np.frombuffer(loan.view(), np.uint8), info.dtype, into, where)
        finally:
            loan.release()

    def _in_base(self, base: Source, info: TensorInfo, where: str) -> TensorInfo:
        found = base.headers().tensors.get(info.name)
        if found is None or (found.dtype, found.shape) != (info.dtype, info.shape):
            raise IntegrityError(
                f"{where}: expected the base to hold it in the same dtype and shape, found "
                f"{'another' if found else 'none'}; the file is damaged or hostile, get it again"
            )
        return found

    def _check_base(self, base: Source) -> None:
        """Raise unless the base has the content this model was coded against."""
        if self._base_is_right or self._facts.base is None:
            return
        found = base.content_fingerprint()
        if found != self._facts.base.content:
            raise IntegrityError(
                f"{at(self.name, self._container.file)}: expected the base it is coded against, "
                f"with the fingerprint {self._facts.base.content}, found {found} "
                f"({at(base.name)}); give that very base, unchanged"
            )
        self._base_is_right = True
