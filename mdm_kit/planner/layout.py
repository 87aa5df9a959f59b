"""Where every output byte will lie: shard names, headers and offsets, known before the first read.

Sharded like transformers does it: `model.safetensors`, or `model-0000i-of-0000n.safetensors` with
an index. Headers carry `{"format": "pt"}` and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mdm_kit.planner.nodes import Write
from mdm_kit.sources.header_writing import written_header
from mdm_kit.words import DTYPES

INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_NBYTES = 20_000_000
"""A shard is closed before its header grows past this; readers refuse one of 25 MB."""
_ENTRY_OVERHEAD = 160
"""Upper bound of a header entry without its name and shape: braces, dtype and two offsets."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An output tensor and the half-open byte range it takes in its shard's file."""

    write: Write
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shard:
    """One output file: its name, the exact header bytes (length prefix included), its tensors.

    Tensors stand in the order of their bytes, which is the order they are computed and written in.
    """

    name: str
    header: bytes
    tensors: tuple[Placed, ...]
    nbytes: int


def lay_out(writes: Sequence[Write], shard_nbytes: int) -> tuple[Shard, ...]:
    """Return the shards for `writes` in their order, each at most `shard_nbytes` of tensors.

    A tensor larger than the limit gets a shard of its own. No tensors give one empty shard.
    """
    groups: list[list[Write]] = [[]]
    filled = header = 0
    for write in writes:
        entry = len(json.dumps(write.name)) + 24 * len(write.shape) + _ENTRY_OVERHEAD
        full = filled + write.nbytes > shard_nbytes or header + entry > MAX_HEADER_NBYTES
        if full and groups[-1]:
            groups.append([])
            filled = header = 0
        groups[-1].append(write)
        filled += write.nbytes
        header += entry
    n = len(groups)
    names = (
        ["model.safetensors"]
        if n == 1
        else [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    )
    return tuple(_shard(name, group) for name, group in zip(names, groups, strict=True))


def _shard(name: str, group: Sequence[Write]) -> Shard:
    # Wider elements first: then every tensor starts at a multiple of its own element size, without
    # holes, which the format forbids.
    ordered = sorted(group, key=lambda w: -DTYPES[w.dtype].bits)
    header = written_header((w.name, w.dtype, w.shape, w.nbytes) for w in ordered)
    placed = []
    start = len(header)
    for w in ordered:
        placed.append(Placed(w, (start, start + w.nbytes)))
        start += w.nbytes
    return Shard(name, header, tuple(placed), start)


def index_json(shards: Sequence[Shard]) -> bytes:
    """Return the text of `model.safetensors.index.json` for more than one shard."""
    tensors = [(p.write, s.name) for s in shards for p in s.tensors]
    index = {
        "metadata": {
            "total_parameters": sum(w.n_elements for w, _ in tensors),
            "total_size": sum(w.nbytes for w, _ in tensors),
        },
        "weight_map": {w.name: shard for w, shard in sorted(tensors, key=lambda t: t[0].name)},
    }
    return (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode()
