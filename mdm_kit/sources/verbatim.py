"""What a model's folder holds besides tensors, byte for byte, to write the same folder again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.errors import UsageError
from mdm_kit.sources.shard_index import MAX_INDEX_BYTES
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    from mdm_kit.sources.seam import CheckpointFile, Source


def head_bytes(source: Source, file: CheckpointFile) -> bytes:
    """Return all bytes of a weight file before its data, the length field included."""
    head = bytearray(file.header_nbytes)
    _stored(source)._read_at(file.name, memoryview(head), 0)  # noqa: SLF001 -- a friend
    return bytes(head)


def index_file(source: Source) -> tuple[str, bytes] | None:
    """Return the name and bytes of the index the weights are found by, None without one."""
    stored = _stored(source)
    present = frozenset(name for name in stored._names() if "/" not in name)  # noqa: SLF001
    index = stored._layout(present).index  # noqa: SLF001
    if index is None:
        return None
    return index, stored._small_file(index, MAX_INDEX_BYTES)  # noqa: SLF001


def _stored(source: Source) -> StoredSource:
    if not isinstance(source, StoredSource):
        raise UsageError(f"{at(source.name)}: expected a model of safetensors files")
    return source
