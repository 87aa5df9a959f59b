"""Writes the shards of a plan, taking over those an interrupted merge has finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdm_kit.bundle.shard_file import ShardDigests, ShardFile, digest_file
from mdm_kit.bundle.stage import Stage
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.layout import Shard
from mdm_kit.run.executor import stream
from mdm_kit.run.journal import Journal
from mdm_kit.run.progress import Progress
from mdm_kit.run.tile import Batches, Job, Tile, measure_tiles_of, stage_tiles_of, tiles_of
from mdm_kit.run.work import Work


def write_shards(
    shards: Sequence[Shard],
    done: dict[str, ShardDigests],
    stage: Stage,
    journal: Journal,
    work: Work,
    budget: Budget,
    progress: Progress,
) -> dict[str, ShardDigests]:
    """Bring every shard to disk under its name and return their digests by name.

    Those in `done` stand there already. Raises what the work raises and `RoomError` where the disk
    refuses.
    """
    todo = [s for s in shards if s.name not in done]
    # One stream over all shards, so that workers read ahead while a shard is being closed.
    results = stream((j for s in todo for j in jobs_of(s, work, budget)), work, budget.threads)
    digests, profile = dict(done), work.profile
    try:
        for shard in todo:
            sizes = [p.write.nbytes for p in shard.tensors]
            with ShardFile(stage.model / shard.name, shard.header, sizes) as file:
                progress.advance(len(shard.header))
                left = sum(sizes)
                while left:
                    with profile.during("wait"):
                        job, out = next(results)
                    if not job.nbytes:
                        continue  # measured, nothing to write
                    with profile.during("write", job.nbytes):
                        file.append(out.data, job.lead)
                    progress.advance(job.nbytes)
                    left -= job.nbytes
                with profile.during("sync"):
                    digests[shard.name] = file.finish()
            names = [p.write.name for p in shard.tensors]
            grams, exact = ({n: g[n] for n in names if n in g} for g in (work.grams, work.exact))
            journal.finished(shard.name, digests[shard.name].sha256, grams, exact)
    finally:
        results.close()
    return digests


def jobs_of(shard: Shard, work: Work, budget: Budget) -> Iterator[Job]:
    """Yield a shard's work in the order of its bytes, for `stream`.

    A large tensor that is measured on the way comes more than once, to be measured and to be
    merged soon after, when the system still holds its bytes in memory. Its first reading stands
    before the merging of the tensor before it, so that no worker waits for another's last tile.
    """
    batches = Batches(len(shard.header))
    waiting: list[Tile] = []
    for placed in shard.tensors:
        write = placed.write
        size = budget.tile_of(write)
        apply = write.apply()
        unsolved = apply is not None and apply.group is not None and write.name not in work.weights
        measured = work.tally(write, exact=False) if unsolved else None
        course = work.course_of(write)
        large = write.n_elements > size
        staged = course if large else None
        if measured is not None and large:
            yield from measure_tiles_of(measured, size)
        if staged is not None and staged.stages:
            yield from stage_tiles_of(staged, 0, size)
        yield from batches.of(waiting)
        if staged is not None and len(staged.stages) > 1:
            yield from batches.rest()  # else they would wait for the stages
            for i in range(1, len(staged.stages)):
                yield from stage_tiles_of(staged, i, size)
        waiting = list(tiles_of(write, size, measured, course))
    yield from batches.of(waiting)
    yield from batches.rest()


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
