"""Writes the shards of a plan, taking over those an interrupted merge has finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch

from mdm_kit.bundle.shard_file import ShardDigests, ShardFile, digest_file
from mdm_kit.bundle.stage import Stage
from mdm_kit.planner.layout import Shard
from mdm_kit.run.executor import stream, tiles_of_shard
from mdm_kit.run.journal import Journal
from mdm_kit.run.progress import Progress
from mdm_kit.run.tile import Tile

Kernel = Callable[[Tile, torch.Tensor], None]


def write_shards(
    shards: Sequence[Shard],
    stage: Stage,
    journal: Journal,
    kernel: Kernel,
    threads: int,
    progress: Progress,
) -> dict[str, ShardDigests]:
    """Bring every shard to disk under its name and return their digests by name.

    A shard in the journal is digested again from disk; one whose bytes are not those of the journal
    is computed anew. Raises what the kernel raises and `RoomError` where the disk refuses.
    """
    done = {s.name: d for s in shards if (d := _finished(s, stage, journal)) is not None}
    todo = [s for s in shards if s.name not in done]
    progress.start(sum(s.nbytes for s in shards), sum(s.nbytes for s in shards if s.name in done))
    if done:
        progress.say(f"resuming: {len(done)} of {len(shards)} shards are finished and unharmed")
    counts = [sum(1 for _ in tiles_of_shard(s)) for s in todo]
    # One stream over all shards, so that workers read ahead while a shard is being closed.
    blocks = stream((t for s in todo for t in tiles_of_shard(s)), kernel, threads)
    try:
        for shard, n_tiles in zip(todo, counts, strict=True):
            sizes = [p.write.nbytes for p in shard.tensors]
            with ShardFile(stage.model / shard.name, shard.header, sizes) as file:
                progress.advance(len(shard.header))
                for tile, block in islice(blocks, n_tiles):
                    file.append(block)
                    progress.advance(tile.nbytes)
                done[shard.name] = file.finish()
            journal.finished(shard.name, done[shard.name].sha256)
    finally:
        blocks.close()
    return done


def _finished(shard: Shard, stage: Stage, journal: Journal) -> ShardDigests | None:
    claimed = journal.shards.get(shard.name)
    path = stage.model / shard.name
    if claimed is None or not path.is_file() or path.stat().st_size != shard.nbytes:
        return None
    digests = digest_file(path, len(shard.header), [p.write.nbytes for p in shard.tensors])
    return digests if digests.sha256 == claimed else None
