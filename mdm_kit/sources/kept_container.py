"""A kept model's file as a file: its header, checked, and the bytes of its entries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources.adapter_config import ADAPTER_CONFIG
from mdm_kit.sources.kept_codec import (
    BLOCK_ELEMENTS,
    END_NBYTES,
    elements,
    largest_block,
    n_blocks,
    packed_limit,
    unpack,
)
from mdm_kit.sources.kept_facts import HEAD, SIDE, TENSOR, Facts, parse_facts
from mdm_kit.sources.open_files import OpenFiles, told
from mdm_kit.sources.safetensors_header import LENGTH_BYTES, header_length, parse_header
from mdm_kit.sources.side_files import is_side_file
from mdm_kit.sources.whereabouts import at, named

if TYPE_CHECKING:
    import os

    from mdm_kit.sources.safetensors_header import Header
    from mdm_kit.words import TensorInfo


class Container:
    """The open file; its entries are what its facts promise, no more and no less."""

    def __init__(self, name: str, path: str | os.PathLike[str]) -> None:
        """Open the file and read its header.

        Raises `SourceError` if there is none, `IntegrityError` if it is damaged.
        """
        self.name = name
        try:
            self.path = Path(path).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise SourceError(
                f"{at(name)}: expected a kept model's file, found none; check its path"
            ) from None
        self.file = Path(path).name  # a cache's link has a better name than what it leads to
        self._files = OpenFiles(name, lambda _: self.path)
        try:
            header = self._header()
            self.facts = parse_facts(name, self.file, header.metadata)
            self.entries = {info.name: info for info in header.tensors}
            self._check()
        except BaseException:
            self.close()
            raise

    def _header(self) -> Header:
        size = self._files.size(self.file)
        first = bytearray(min(LENGTH_BYTES, size))
        self.read_into(memoryview(first), 0)
        prefix = bytearray(LENGTH_BYTES + header_length(self.name, self.file, bytes(first), size))
        self.read_into(memoryview(prefix), 0)
        return parse_header(self.name, self.file, bytes(prefix), size)

    def _check(self) -> None:
        facts = self.facts
        heads = (*facts.files, *([] if facts.index is None else [facts.index]))
        wanted = {TENSOR + n for n in facts.tensors} | {HEAD + n for n in heads}
        sides = {SIDE + n for n in self.sides()}
        absent, strange = wanted - self.entries.keys(), self.entries.keys() - wanted - sides
        if absent or strange:
            words = "no" if absent else "besides them"
            raise IntegrityError(
                f"{at(self.name, self.file)}: expected an entry for every tensor, header and side "
                f"file, found {words} {named(sorted(absent or strange))}; "
                "the file is damaged or hostile, get it again"
            )
        for info in self.entries.values():
            if info.dtype != "U8" or len(info.shape) != 1:
                raise IntegrityError(
                    f"{at(self.name, self.file, info.name)}: expected bytes in a row, found "
                    f"{info.dtype} of {len(info.shape)} dimensions; the file is damaged or hostile"
                )

    def sides(self) -> list[str]:
        """Return the names of the side files, of a kept adapter its config."""
        names = (n.removeprefix(SIDE) for n in self.entries if n.startswith(SIDE))
        return [n for n in names if is_side_file(n) or n == ADAPTER_CONFIG]

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the file's bytes from `offset` on."""
        self._files.read_into(self.file, view, offset)

    def small(self, entry: str, limit: int) -> bytes:
        """Return the small file an entry holds; raise `IntegrityError` if it exceeds `limit`."""
        info = self.entries[entry]
        where = at(self.name, self.file, entry)
        if info.nbytes > packed_limit(limit):
            raise IntegrityError(
                f"{where}: expected at most {limit:,} bytes, found {info.nbytes:,} compressed; "
                "this is not what its name says"
            )
        data = bytearray(info.nbytes)
        self.read_into(memoryview(data), info.span[0])
        return unpack(bytes(data), limit, where)

    def block(self, info: TensorInfo, i: int) -> bytes:
        """Return the bytes of block `i` of a tensor's stream."""
        begin, end = self.entries[TENSOR + info.name].span
        last = end - n_blocks(info) * END_NBYTES
        ends = bytearray(END_NBYTES * min(2, i + 1))
        self.read_into(memoryview(ends), last + max(0, i - 1) * END_NBYTES)
        start, stop = ([0, *np.frombuffer(ends, "<u8").tolist()])[-2:]
        n, width = elements(info)
        most = largest_block(min(BLOCK_ELEMENTS, n - i * BLOCK_ELEMENTS), width)
        if not start <= stop <= last - begin or stop - start > most:
            raise IntegrityError(
                f"{at(self.name, self.file, info.name)}: expected block {i} of at most {most:,} "
                f"bytes within {last - begin:,}, found it from byte {start:,} to {stop:,}; "
                "the file is damaged or hostile, get it again"
            )
        data = bytearray(stop - start)
        self.read_into(memoryview(data), begin + start)
        return bytes(data)

    def stamp(self) -> list[str | int]:
        """Return what changes when the file does."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise told(error, self.name, self.file) from None
        return [str(self.path), status.st_size, status.st_mtime_ns, status.st_ino]

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        self._files.close()

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def read_facts(name: str, path: str | os.PathLike[str]) -> Facts:
    """Return what the kept model at `path` says about itself: its base above all."""
    with Container(name, path) as container:
        return container.facts
