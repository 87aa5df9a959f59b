"""Has the stages of a plan made: some as they are read, some written to disk before.

A stage that needs a number of the whole model cannot be made tensor by tensor. It is merged into a
folder of the work folder, with a journal of its own, and goes when nobody will read it any more.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mdm_kit.bundle.shard_file import ShardDigests, digest_file
from mdm_kit.bundle.stage import Stage, put
from mdm_kit.planner.layout import INDEX_NAME, index_json
from mdm_kit.planner.plan import Plan, PlannedStage
from mdm_kit.planner.stage_costs import needed_by, uses_of
from mdm_kit.planner.stage_source import CONFIG
from mdm_kit.run.computed import Computed
from mdm_kit.run.delivery import Delivery
from mdm_kit.run.foresight import Foresight, foresight_over
from mdm_kit.run.journal import Journal
from mdm_kit.run.making import make_tensors, sources_of, work_of
from mdm_kit.run.pool import Pool
from mdm_kit.run.progress import Progress
from mdm_kit.run.work import Kernels, Work
from mdm_kit.sources import FolderSource, Loan
from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class _Written:
    """A stage in a folder; its digests tell what is tied."""

    source: FolderSource
    digests: dict[str, str]
    is_far: bool = False

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        return self.source.lend(info, start, nbytes)

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None: ...

    def are_tied(self, head: str, embeddings: Sequence[str]) -> bool:
        return self.digests[head] in [self.digests[name] for name in embeddings]


@dataclass(slots=True)
class _Stages:
    """The stages of one plan in one work folder."""

    plan: Plan
    folder: Path
    kernels: Kernels
    journal: Journal | None
    progress: Progress
    key: str
    written: dict[str, _Written] = field(default_factory=dict)

    def make(self) -> None:
        """Write what must be on disk, and have all others made as they are read."""
        on_disk = [s for s in self.plan.stages if not s.streams]
        runs = [*on_disk, None]
        wanted = {s.name for s in needed_by(self.plan, self.plan.stages)}
        for stage in reversed(on_disk):
            if stage.name in wanted and not self._take_over(stage):
                wanted |= {s.name for s in needed_by(stage.plan, self.plan.stages)}
        for i, stage in enumerate(on_disk):
            if stage.name in wanted and stage.name not in self.written:
                self._write(stage)
            self._clear([r.plan if r else self.plan for r in runs[i + 1 :]])
        self._stream(self.plan)

    def _take_over(self, stage: PlannedStage) -> bool:
        """Return whether an earlier run has written a stage whose bytes are still those."""
        noted = self.journal.stages.get(stage.name) if self.journal else None
        if noted is None:
            return False
        folder = self._folder(stage)
        for shard in stage.plan.shards:
            path = folder / shard.name
            if not path.is_file() or path.stat().st_size != shard.nbytes:
                return False
            sizes = [p.write.nbytes for p in shard.tensors]
            if digest_file(path, len(shard.header), sizes) != noted.get(shard.name):
                return False
        self._has(stage, noted)
        if (folder / CONFIG).is_file():
            stage.source.settle((folder / CONFIG).read_bytes())
        return True

    def _write(self, stage: PlannedStage) -> None:
        """Merge a stage into its folder, going on where an earlier run has stopped."""
        plan, out = stage.plan, self._folder(stage)
        self.progress.say(f"merging the stage {stage.name}")
        self.folder.mkdir(exist_ok=True)
        shutil.rmtree(out, ignore_errors=True)  # whole, but not as the journal has it
        self._stream(plan)
        with Stage(out) as room, room.told(), self.foresight(plan) as foresight:
            journal = Journal(room.journal)
            key = hashlib.sha256(f"{self.key} {plan.digest}".encode()).hexdigest()
            if journal.key != key:
                room.clear()
                journal.start(key)
            work = work_of(plan, room, self.kernels, foresight)
            delivery = Delivery(room, journal, None)
            result = make_tensors(plan, room, journal, work, self.progress, delivery)
            if len(plan.shards) > 1:
                room.put(INDEX_NAME, index_json(plan.shards))
            room.seal(overwrite=False)
        self._has(stage, result.digests)
        # While all it follows from is there: whether weights are tied may go back several stages.
        config = stage.source.side_file(CONFIG)
        if config is not None:
            put(out / CONFIG, config)
        if self.journal is not None:
            self.journal.staged(stage.name, result.digests)

    def foresight(self, plan: Plan) -> Foresight:
        """Return the foresight for what merging a plan reads, through streamed stages too."""
        return foresight_over(plan, self.plan.stages, self.plan.costs.held_nbytes)

    def _folder(self, stage: PlannedStage) -> Path:
        # By its number: what a stage may be called is more than what a folder may be.
        return self.folder / f"{self.plan.stages.index(stage) + 1:03d}"

    def _has(self, stage: PlannedStage, digests: dict[str, ShardDigests]) -> None:
        by_name = {
            p.write.name: digest
            for s in stage.plan.shards
            for p, digest in zip(s.tensors, digests[s.name].tensors, strict=True)
        }
        found = _Written(FolderSource(stage.name, self._folder(stage)), by_name)
        self.written[stage.name] = found
        stage.source.made_by(found)

    def _clear(self, to_come: Sequence[Plan]) -> None:
        """Remove the folders of stages that none of these plans reads."""
        needed = {s.name for plan in to_come for s in needed_by(plan, self.plan.stages)}
        for stage in self.plan.stages:
            if stage.name in self.written and stage.name not in needed:
                self.written.pop(stage.name).source.close()
                stage.source.made_by(None)
                shutil.rmtree(self._folder(stage))

    def _stream(self, plan: Plan) -> None:
        """Have streamed stages made for the merge of `plan`, as often as that will read them."""
        uses = uses_of(plan, self.plan.stages)
        pool = Pool(plan.budget.memory_nbytes)
        for stage in self.plan.stages:
            if stage.streams:
                work = Work(self.kernels, sources_of(stage.plan), seed=stage.plan.recipe.seed)
                stage.source.made_by(Computed(stage, work, pool, uses))

    def close(self) -> None:
        """Have nothing made any more."""
        for stage in self.plan.stages:
            stage.source.made_by(None)
        for written in self.written.values():
            written.source.close()


@contextmanager
def made_stages(
    plan: Plan,
    folder: Path,
    kernels: Kernels,
    journal: Journal | None,
    progress: Progress,
    key: str = "",
) -> Iterator[Foresight]:
    """Have a plan's stages made inside the block; gives the foresight for what the plan reads.

    Stages on disk lie in `folder`, whose merge has this `key`; what is finished there is noted in
    the journal. Raises what merging a stage raises.
    """
    stages = _Stages(plan, folder, kernels, journal, progress, key)
    try:
        if plan.stages:
            stages.make()
        with stages.foresight(plan) as foresight:
            yield foresight
    finally:
        stages.close()
