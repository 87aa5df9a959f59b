"""What a merge of several stages costs: how often each is made, what is kept of it, and the disk.

A tensor of a streamed stage is made when it is first asked for and kept until it was read as often
as later ones read it, as far as memory goes; then the oldest goes, and is made again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mdm_kit.planner.costs import SPARE_TILES, Budget, Costs
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.plan import Plan, PlannedStage
from mdm_kit.sources.aligned import as_stored
from mdm_kit.words import DTYPES

Key = tuple[str, str]
"""A stage's name and a tensor of it."""


def uses_of(plan: Plan, stages: Sequence[PlannedStage]) -> Counter[Key]:
    """Return how often each tensor of the streamed stages is read whole while `plan` is merged."""
    found: Counter[Key] = Counter()
    streamed = {s.name: s for s in stages if s.streams}
    _count(plan.writes, plan, streamed, found)
    for stage in reversed(stages):
        if stage.streams:
            made = [w for w in stage.plan.writes if found[stage.name, w.name]]
            _count(made, stage.plan, streamed, found)
    return found


def _count(
    writes: Iterable[Write],
    plan: Plan,
    streamed: Mapping[str, PlannedStage],
    found: Counter[Key],
) -> None:
    names = stage_names(plan, streamed)
    for write in writes:
        for read in write.reads():
            stage = names.get(read.info.source)
            if stage is not None:
                found[stage, read.info.name] += plan.budget.touches_of(write)


def stage_names(plan: Plan, stages: Mapping[str, PlannedStage]) -> dict[str, str]:
    """Return which of a plan's sources are results of these stages: the stage by its name there."""
    by_source = {id(s.source): name for name, s in stages.items()}
    read = ((s.name, id(as_stored(s.source))) for s in plan.sources)
    return {name: by_source[source] for name, source in read if source in by_source}


def needed_by(plan: Plan, stages: Sequence[PlannedStage]) -> tuple[PlannedStage, ...]:
    """Return the stages on disk that are read while `plan` is merged, through streamed ones too."""
    known = {s.name: s for s in stages}
    found: set[str] = set()
    todo = list(stage_names(plan, known).values())
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            if known[name].streams:
                todo += stage_names(known[name].plan, known).values()
    return tuple(s for s in stages if s.name in found and not s.streams)


@dataclass(slots=True)
class _Run:
    """Follows one merge, tensor by tensor: what is read for it, and what is kept meanwhile."""

    stages: Mapping[str, PlannedStage]
    budget: Budget
    left: Counter[Key]
    read_nbytes: int = 0
    again: Counter[str] = field(default_factory=Counter)
    held: OrderedDict[Key, int] = field(default_factory=OrderedDict)
    held_nbytes: int = 0
    over: list[Key] = field(default_factory=list)
    most: int = 0
    seen: set[Key] = field(default_factory=set)
    names: dict[int, dict[str, str]] = field(default_factory=dict)

    def merge(self, plan: Plan) -> None:
        """Write every tensor of a plan."""
        writes = {s.name: {w.name: w for w in s.plan.writes} for s in self.stages.values()}
        for write in plan.writes:
            # The first reading of a tensor stands before the last of the tensor before it.
            over, self.over = self.over, []
            self._write(plan, write, writes)
            for key in over:
                self.held_nbytes -= self.held.pop(key, 0)

    def _write(self, plan: Plan, write: Write, writes: Mapping[str, Mapping[str, Write]]) -> None:
        if id(plan) not in self.names:
            self.names[id(plan)] = stage_names(plan, self.stages)
        names = self.names[id(plan)]
        times = plan.budget.readings_of(write)
        for read in write.reads():
            stage = names.get(read.info.source)
            if stage is None or not self.stages[stage].streams:
                self.read_nbytes += times * read.info.nbytes
                continue
            made = writes[stage][read.info.name]
            self._ask(
                (stage, read.info.name),
                plan.budget.touches_of(write),
                partial(self._write, self.stages[stage].plan, made, writes),
                made,
            )

    def _ask(self, key: Key, touches: int, make: Callable[[], None], write: Write) -> None:
        self.left[key] -= touches
        if key not in self.held:
            kept = touches > 1 or self.left[key] > 0
            made = touches if kept and write.nbytes > self.budget.memory_nbytes else 1
            for _ in range(made):
                make()
            self.again[key[0]] += (made if key in self.seen else made - 1) * write.nbytes
            self.seen.add(key)
            self.held[key] = write.nbytes if kept else min(write.nbytes, self._moving(write))
            self.held_nbytes += self.held[key]
        self.held.move_to_end(key)
        while len(self.held) > 1 and self.held_nbytes > self.budget.memory_nbytes:
            self.held_nbytes -= self.held.popitem(last=False)[1]
        self.most = max(self.most, self.held_nbytes)
        if self.left[key] <= 0:
            self.over.append(key)

    def _moving(self, write: Write) -> int:
        """Return the bytes of the tiles that are there at once of a tensor that is read once."""
        tile = self.budget.tile_of(write) * DTYPES[write.dtype].bits // 8
        return (self.budget.threads + SPARE_TILES) * tile


def staged_costs(plan: Plan) -> Costs:
    """Return what a plan costs with all its stages."""
    stages = {s.name: s for s in plan.stages}
    on_disk = [s for s in plan.stages if not s.streams]
    read, held, memory, again = 0, 0, 0, Counter[str]()
    runs = [*((s.plan, s.plan.costs) for s in on_disk), (plan, plan.costs)]
    for part, own in runs:
        run = _Run(stages, part.budget, uses_of(part, plan.stages))
        run.merge(part)
        read += run.read_nbytes
        again += run.again
        used = {stage for stage, _ in run.seen}
        streamed = [stages[name].plan.costs for name in used]
        memory = max(memory, own.memory_nbytes + run.most + sum(c.memory_nbytes for c in streamed))
        held = max(held, own.held_nbytes + sum(c.held_nbytes for c in streamed))
    everything = [s.plan.costs for s in plan.stages]
    download = sum(c.download_nbytes for c in (*everything, plan.costs))
    for name, nbytes in again.items():
        one = stages[name].plan.costs
        download += one.download_nbytes * nbytes // max(1, one.write_nbytes)
    return replace(
        plan.costs,
        read_nbytes=read,
        read_twice=plan.costs.read_twice + sum(c.read_twice for c in everything),
        download_nbytes=download,
        disk_nbytes=_disk_peak(plan, on_disk),
        memory_nbytes=memory,
        held_nbytes=held,
        passes=max(c.passes for c in (*everything, plan.costs)),
        barriers=plan.costs.barriers + len(on_disk),
        maps=plan.costs.maps + sum(c.maps for c in everything),
        maps_s=plan.costs.maps_s + sum(c.maps_s for c in everything),
        stages_nbytes=sum(s.plan.costs.write_nbytes for s in on_disk),
        again_nbytes=again.total(),
    )


def _disk_peak(plan: Plan, on_disk: Sequence[PlannedStage]) -> int:
    """Return the most room there is need for at once: each stage goes when nobody will read it."""
    readers = [*((s.name, needed_by(s.plan, plan.stages)) for s in on_disk)]
    readers.append(("", needed_by(plan, plan.stages)))
    last = {s.name: i for i, (_, needed) in enumerate(readers) for s in needed}
    most = 0
    for i, own in enumerate((*(s.plan.costs for s in on_disk), plan.costs)):
        there = [s for s in on_disk[:i] if last.get(s.name, -1) >= i]
        most = max(most, own.disk_nbytes + sum(s.plan.costs.disk_nbytes for s in there))
    return most
