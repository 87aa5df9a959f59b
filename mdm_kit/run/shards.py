"""Writes the shards of a plan, taking over those an interrupted merge has finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from mdm_kit.bundle.shard_file import ShardDigests, ShardFile, digest_file
from mdm_kit.bundle.stage import Stage
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.layout import Shard
from mdm_kit.run.executor import stream
from mdm_kit.run.journal import Journal
from mdm_kit.run.progress import Progress
from mdm_kit.run.tile import Tile, tiles_of
from mdm_kit.run.work import WriteWork


def write_shards(
    shards: Sequence[Shard],
    done: dict[str, ShardDigests],
    stage: Stage,
    journal: Journal,
    work: WriteWork,
    budget: Budget,
    progress: Progress,
) -> dict[str, ShardDigests]:
    """Bring every shard to disk under its name and return their digests by name.

    Those in `done` stand there already. Raises what the work raises and `RoomError` where the disk
    refuses.
    """
    todo = [s for s in shards if s.name not in done]
    counts = [sum(1 for _ in _tiles(s, budget)) for s in todo]
    # One stream over all shards, so that workers read ahead while a shard is being closed.
    results = stream((t for s in todo for t in _tiles(s, budget)), work, budget.threads)
    digests = dict(done)
    try:
        for shard, n_tiles in zip(todo, counts, strict=True):
            sizes = [p.write.nbytes for p in shard.tensors]
            with ShardFile(stage.model / shard.name, shard.header, sizes) as file:
                progress.advance(len(shard.header))
                for tile, out in islice(results, n_tiles):
                    file.append(out.data)
                    progress.advance(tile.nbytes)
                digests[shard.name] = file.finish()
            names = [p.write.name for p in shard.tensors if p.write.name in work.grams]
            grams = {name: work.grams[name] for name in names}
            journal.finished(shard.name, digests[shard.name].sha256, grams)
    finally:
        results.close()
    return digests


def _tiles(shard: Shard, budget: Budget) -> Iterator[Tile]:
    for placed in shard.tensors:
        apply = placed.write.apply()
        measured = apply is not None and apply.group is not None
        whole = measured and budget.reads_once(placed.write)
        yield from tiles_of(placed.write, whole=whole)


def finished_shards(
    shards: Sequence[Shard], stage: Stage, journal: Journal
) -> dict[str, ShardDigests]:
    """Return the digests of shards that were finished before and are unharmed, read from disk.

    A shard whose bytes are not those of the journal is not among them, and is computed anew.
    """
    found = {}
    for shard in shards:
        claimed = journal.shards.get(shard.name)
        path = stage.model / shard.name
        if claimed is None or not path.is_file() or path.stat().st_size != shard.nbytes:
            continue
        digests = digest_file(path, len(shard.header), [p.write.nbytes for p in shard.tensors])
        if digests.sha256 == claimed:
            found[shard.name] = digests
    return found
