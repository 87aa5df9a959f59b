"""What a plan will cost, counted before the first byte is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdm_kit.methods.registry import methods
from mdm_kit.planner.layout import Shard
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.survey import Surveyed
from mdm_kit.words import DTYPES

TILE_ELEMENTS = 1 << 18
"""Elements of one block: 1 MiB of float32, so that the inputs of a few models stay in a core's
second-level cache together."""
SPARE_TILES = 2
"""Finished tiles that may wait to be hashed and written, beyond one for each worker."""
_HEADER_COPIES = 8
"""Memory a header takes once parsed and planned, as a multiple of its text; measured on 10,000
tensors in four models."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes and passes of a merge.

    `read_nbytes` counts each source tensor once per pass; `download_nbytes` what is not on this
    machine yet; `memory_nbytes` is the peak beyond the interpreter and its libraries with
    `threads` workers; `disk_nbytes` the room the output takes while it is written.
    """

    read_nbytes: int
    download_nbytes: int
    write_nbytes: int
    disk_nbytes: int
    memory_nbytes: int
    threads: int
    passes: int
    barriers: int


def tile_elements(write: Write) -> int:
    """Return how many elements of a tensor are worked on at a time: a tile, or all of it."""
    n = max(1, write.nbytes * 8 // DTYPES[write.dtype].bits)
    apply = write.apply()
    if apply is None or methods()[apply.method].tiles == "elementwise":
        return min(n, TILE_ELEMENTS)
    return n


def costs(sources: Sequence[Surveyed], shards: Sequence[Shard], threads: int) -> Costs:
    """Count what writing `shards` from `sources` takes with `threads` workers."""
    writes = [p.write for s in shards for p in s.tensors]
    write_nbytes = sum(s.nbytes for s in shards)
    headers = sum(f.header_nbytes for s in sources for f in s.checkpoint.files)
    return Costs(
        read_nbytes=sum(r.info.nbytes for w in writes for r in w.reads()),
        download_nbytes=sum(
            f.nbytes for s in sources for f in s.checkpoint.files if not f.in_cache
        ),
        write_nbytes=write_nbytes,
        disk_nbytes=write_nbytes,
        memory_nbytes=_HEADER_COPIES * headers + max(map(_memory(threads), writes), default=0),
        threads=threads,
        passes=1,
        barriers=0,
    )


def _memory(threads: int):  # type: ignore[no-untyped-def]
    def memory(write: Write) -> int:
        tile = tile_elements(write)
        apply = write.apply()
        wide = DTYPES["F64" if apply and apply.compute == "float64" else "F32"].bits // 8
        inputs = sum(DTYPES[r.info.dtype].bits // 8 + wide for r in write.reads())
        temporaries = 3 * wide  # the method's sum and one product, the folded result
        out = DTYPES[write.dtype].bits // 8
        return tile * (threads * (inputs + temporaries) + (threads + SPARE_TILES) * out)

    return memory
