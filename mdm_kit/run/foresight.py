"""Tells sources that are not on this machine what will be read, before it is.

Jobs are taken from their list some way ahead of the work. What they will read is announced in
order, so that it can be fetched in few large requests while earlier jobs are worked on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Self, TypeVar

from mdm_kit.planner.plan import Plan, PlannedStage
from mdm_kit.sources import AHEAD_NBYTES, Source, Streams
from mdm_kit.sources.aligned import as_stored

J = TypeVar("J")


class Foresight:
    """Lets far sources fetch ahead inside a `with`; costs nothing where none is far."""

    def __init__(
        self,
        sources: Collection[Source],
        ahead_nbytes: int = AHEAD_NBYTES,
        held_nbytes: int = 2 * AHEAD_NBYTES,
    ) -> None:
        """Fetch up to `ahead_nbytes` before they are used, hold up to `held_nbytes` in all."""
        self._far = [s for s in sources if s.is_far]
        self._room = (ahead_nbytes, held_nbytes)
        self._streams: Streams | None = None

    def __enter__(self) -> Self:
        """Begin; returns itself."""
        if self._far:
            self._streams = Streams(*self._room)
            for source in self._far:
                source.fetch_through(self._streams)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop fetching; what is far is then read without foresight."""
        if self._streams is not None:
            self._streams.close()
            for source in self._far:
                source.fetch_through(None)
            self._streams = None

    def settle(self) -> None:
        """Return when all that was fetched has been taken note of: then digests are complete."""
        if self._streams is not None:
            self._streams.settle()

    def give_up(self) -> None:
        """Stop fetching, so that no worker waits for what is on its way."""
        if self._streams is not None:
            self._streams.stop()

    def ahead(self, jobs: Iterable[J], announce: Callable[[J], int]) -> Iterator[J]:
        """Yield the jobs in order, each after it and many behind it were announced.

        `announce` returns how many bytes a job reads.
        """
        streams = self._streams
        if streams is None:
            yield from jobs
            return
        waiting: deque[tuple[J, int]] = deque()
        reach = 0
        for job in jobs:
            nbytes = announce(job)
            waiting.append((job, nbytes))
            reach += nbytes
            while reach > streams.reach:
                streams.go()
                first, nbytes = waiting.popleft()
                yield first
                reach -= nbytes
        streams.go()
        while waiting:
            yield waiting.popleft()[0]


def foresight_over(
    plan: Plan, stages: Sequence[PlannedStage] = (), held_nbytes: int | None = None
) -> Foresight:
    """Return the foresight for a plan's sources, and those that its streamed `stages` read.

    Within `held_nbytes` of memory, else what the plan counted.
    """
    made = {id(s.source): s.plan for s in stages if s.streams}
    sources: dict[int, Source] = {}
    todo = [as_stored(s.source) for s in plan.sources]
    while todo:
        source = todo.pop()
        if id(source) not in sources:
            sources[id(source)] = source
            inner = made[id(source)].sources if id(source) in made else ()
            todo += [as_stored(s.source) for s in inner]
    held = plan.costs.held_nbytes if held_nbytes is None else held_nbytes
    return Foresight(tuple(sources.values()), plan.budget.ahead_nbytes, held)
