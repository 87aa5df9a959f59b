"""Sums that must be known before the first tensor is written: norms of all decide a scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdm_kit.planner.costs import Budget
from mdm_kit.planner.nodes import Write
from mdm_kit.run.executor import stream
from mdm_kit.run.journal import Journal
from mdm_kit.run.progress import Progress
from mdm_kit.run.summed_course import SummedCourse
from mdm_kit.run.tile import MapTile, StageTile, sum_tiles_of
from mdm_kit.run.work import Work
from mdm_kit.words import counted

SUM_NBYTES = 4
"""Of each number of a sum."""
NOTED_NBYTES = 1 << 28
"""Sums that a crash may lose: they are brought to disk and noted about this much at a time."""


def sum_before(
    writes: Sequence[Write],
    work: Work,
    budget: Budget,
    journal: Journal | None,
    progress: Progress,
) -> None:
    """Sum the tensors whose scale is the whole model's, and find that scale.

    What is summed goes into the journal; what an interrupted merge has summed is known already.
    """
    waiting = work.summing.waiting(writes)
    if waiting:
        progress.say(f"summing {counted(len(waiting), 'tensor')}")
        progress.start(sum(SUM_NBYTES * w.n_elements for w in waiting), 0)
    empty = [w for w in waiting if not w.n_elements]
    for write in empty:
        work.course_of(write)  # it has no tile to be summed from
    work.summing.collect([w.name for w in empty])
    unnoted, nbytes = empty, 0
    for write in _summed(waiting, work, budget):
        progress.advance(SUM_NBYTES * write.n_elements)
        unnoted.append(write)
        nbytes += SUM_NBYTES * write.n_elements
        if nbytes >= NOTED_NBYTES:
            _note(unnoted, work, journal)
            unnoted, nbytes = [], 0
    _note(unnoted, work, journal)
    work.summing.solve(writes)


def _summed(waiting: Sequence[Write], work: Work, budget: Budget) -> Iterator[Write]:
    """Yield each tensor once it is summed."""

    def jobs() -> Iterator[MapTile | StageTile]:
        for write in (w for w in waiting if w.n_elements):
            course = work.course_of(write)
            assert isinstance(course, SummedCourse)  # noqa: S101 -- it waits for its sum
            yield from sum_tiles_of(course, budget.tile_of(write))

    for job, _ in stream(work.ahead(jobs()), work, budget.threads, work.foresight.give_up):
        write = job.course.write
        if write.name in work.summing.collect([write.name]):
            yield write


def _note(writes: Sequence[Write], work: Work, journal: Journal | None) -> None:
    if journal is not None and writes:
        work.summing.note({w.name: work.summing.facts[w.name] for w in writes}, journal)
