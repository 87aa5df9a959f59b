"""Writes the shards of a plan, taking over those an interrupted merge has finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing

from mdm_kit.bundle.shard_file import ShardDigests, ShardFile, digest_file
from mdm_kit.bundle.stage import Stage
from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.layout import Shard
from mdm_kit.run.course import Course
from mdm_kit.run.delivery import Delivery
from mdm_kit.run.executor import stream
from mdm_kit.run.journal import Journal
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.progress import Progress
from mdm_kit.run.tile import (
    Batch,
    Batches,
    Job,
    Tile,
    await_sums,
    measure_tiles_of,
    stage_tiles_of,
    sum_tiles_of,
    tiles_of,
)
from mdm_kit.run.work import Work


def write_shards(
    shards: Sequence[Shard],
    done: dict[str, ShardDigests],
    stage: Stage,
    journal: Journal,
    work: Work,
    budget: Budget,
    progress: Progress,
    delivery: Delivery,
) -> dict[str, ShardDigests]:
    """Bring every shard to disk under its name, deliver it, and return their digests by name.

    Those in `done` stand there already. Raises what the work raises, `RoomError` where the disk
    refuses, and what the delivery raises.
    """
    todo = [s for s in shards if s.name not in done]
    # One stream over all shards, so that workers read ahead while a shard is being closed.
    jobs = work.ahead(j for s in todo for j in jobs_of(s, work, budget))
    results = stream(jobs, work, budget.threads, work.foresight.give_up, await_sums)
    digests, profile = dict(done), work.profile
    with closing(results):
        for shard in todo:
            delivery.await_room()
            sizes = [p.write.nbytes for p in shard.tensors]
            with ShardFile(stage.model / shard.name, shard.header, sizes) as file:
                progress.advance(len(shard.header))
                left = sum(sizes)
                facts: dict[str, SummedTensor] = {}
                while left:
                    with profile.during("wait"):
                        job, out = next(results)
                    if not isinstance(job, Batch):
                        continue  # measured, nothing to write
                    with profile.during("write", job.nbytes):
                        file.append(out.data, job.lead)
                    # Here, not with the shard: a course that is known no more gives its memory up.
                    facts |= work.summing.collect(job.ended)
                    progress.advance(job.nbytes)
                    left -= job.nbytes
                with profile.during("sync"):
                    digests[shard.name] = file.finish()
            names = [p.write.name for p in shard.tensors]
            facts |= work.summing.collect(names)  # those without a tile
            if facts:
                work.summing.note(facts, journal)
            grams, exact = ({n: g[n] for n in names if n in g} for g in (work.grams, work.exact))
            journal.finished(shard.name, digests[shard.name], grams, exact)
            delivery.deliver(shard, digests[shard.name])
    return digests


def jobs_of(shard: Shard, work: Work, budget: Budget) -> Iterator[Job]:
    """Yield a shard's work in the order of its bytes, for `stream`.

    A large tensor that is measured on the way comes more than once, to be measured and to be
    merged soon after, when the system still holds its bytes in memory. Its first reading stands
    before the merging of the tensor before it, so that no worker waits for another's last tile.
    Linear maps, which are summed by one worker each, go ahead of the tiles by as many tensors as
    there are workers.
    """
    batches = Batches(len(shard.header))
    waiting: deque[tuple[Course | None, list[Tile]]] = deque()
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
        if isinstance(course, MapCourse):
            yield from sum_tiles_of(course, size)
        maps = sum(isinstance(c, MapCourse) for c, _ in waiting)
        while waiting and (maps >= budget.threads or not isinstance(waiting[0][0], MapCourse)):
            maps -= isinstance(waiting[0][0], MapCourse)
            yield from batches.of(waiting.popleft()[1])
        if staged is not None and len(staged.stages) > 1:
            yield from batches.rest()  # else they would wait for the stages
            for i in range(1, len(staged.stages)):
                yield from stage_tiles_of(staged, i, size)
        waiting.append((course, list(tiles_of(write, size, measured, course))))
    for _, tiles in waiting:
        yield from batches.of(tiles)
    yield from batches.rest()


def finished_shards(
    shards: Sequence[Shard], stage: Stage, journal: Journal, delivery: Delivery
) -> dict[str, ShardDigests]:
    """Return the digests of shards that were finished before and are unharmed, read from disk.

    A shard whose bytes are not those of the journal is not among them, and is computed anew. One
    that is away is taken at the journal's word.
    """
    found = {}
    for shard in shards:
        claimed = journal.shards.get(shard.name)
        path = stage.model / shard.name
        if claimed is not None and delivery.is_away(shard.name):
            found[shard.name] = claimed
            continue
        if claimed is None or not path.is_file() or path.stat().st_size != shard.nbytes:
            continue
        digests = digest_file(path, len(shard.header), [p.write.nbytes for p in shard.tensors])
        if digests == claimed:
            found[shard.name] = digests
    return found
