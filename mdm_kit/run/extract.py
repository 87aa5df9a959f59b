"""Writes a model's files to a new folder as they were, byte for byte."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from mdm_kit.bundle.new_folder import new_folder
from mdm_kit.errors import IntegrityError
from mdm_kit.run.executor import Bytes, stream
from mdm_kit.run.foresight import Foresight
from mdm_kit.sources import CheckpointFile, Source
from mdm_kit.sources.kept import KeptSource
from mdm_kit.sources.kept_codec import BLOCK_ELEMENTS, elements
from mdm_kit.sources.verbatim import head_bytes, index_file
from mdm_kit.words import TensorInfo, shown


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of a tensor from `start` on: a block of a kept model, so that none is decoded twice."""

    info: TensorInfo
    start: int
    nbytes: int
    lead: int = 0


def extract(
    source: Source, out: Path, threads: int = 1, advance: Callable[[int], None] = lambda _: None
) -> None:
    """Write a model's weight files, index and side files to `out`, which appears whole or not.

    `advance` is told the bytes of weights written. The tensors of a kept model are compared with
    the digests taken when it was kept. Raises `OutputExists` where `out` holds anything,
    `IntegrityError` where a tensor is not what it was, `RoomError` where the disk refuses, and what
    the source raises.
    """
    with new_folder(out) as stage:
        checkpoint = source.headers()
        stage.check_room(checkpoint.nbytes)
        for file in checkpoint.files:
            _write_weights(source, file, stage.model / file.name, threads, advance)
        for name, data in _small_files(source):
            stage.put(name, data)


def _small_files(source: Source) -> Iterator[tuple[str, bytes]]:
    index = index_file(source)
    if index is not None:
        yield index
    for name in source.side_files():
        yield name, source.side_file(name) or b""


def _write_weights(
    source: Source,
    file: CheckpointFile,
    path: Path,
    threads: int,
    advance: Callable[[int], None],
) -> None:
    digests = source.tensor_digests if isinstance(source, KeptSource) else {}
    tensors = [t for t in source.headers().tensors.values() if t.file == file.name]

    def work(piece: _Piece, into: Bytes) -> None:
        source.read(piece.info, into.data, piece.start)

    def announce(piece: _Piece) -> int:
        source.expect(piece.info, piece.start, piece.nbytes)
        return piece.nbytes

    pieces = (piece for info in tensors for piece in _pieces(info))
    with (
        Foresight((source,)) as foresight,
        path.open("xb") as stored,
        contextlib.closing(
            stream(foresight.ahead(pieces, announce), work, threads, foresight.give_up)
        ) as results,
    ):
        head = head_bytes(source, file)
        stored.write(head)
        advance(len(head))
        for info in tensors:
            _write_tensor(info, results, stored, digests, advance)
        stored.flush()
        os.fsync(stored.fileno())


def _write_tensor(
    info: TensorInfo,
    results: Iterator[tuple[_Piece, Bytes]],
    stored: BinaryIO,
    digests: Mapping[str, str],
    advance: Callable[[int], None],
) -> None:
    digest, left = blake3(), info.nbytes
    while left:
        _, block = next(results)
        if digests:
            digest.update(block.data)
        stored.write(block.data)
        left -= len(block)
        advance(len(block))
    if digests and digest.hexdigest() != digests[info.name]:
        raise IntegrityError(
            f"model '{shown(info.source)}', tensor '{shown(info.name)}': expected the bytes that "
            f"were kept, with the BLAKE3 {digests[info.name]}, found {digest.hexdigest()}; the "
            "kept model or its base is damaged, get both again"
        )


def _pieces(info: TensorInfo) -> Iterator[_Piece]:
    size = BLOCK_ELEMENTS * elements(info)[1]
    for start in range(0, info.nbytes, size):
        yield _Piece(info, start, min(size, info.nbytes - start))
