"""Carries out a plan: shards, then everything that belongs beside them, then one sealing rename."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mdm_kit.bundle.stage import Stage, check_output, work_folder
from mdm_kit.errors import IntegrityError, MisfitError, UsageError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.plan import Plan
from mdm_kit.run.devices import pick_device
from mdm_kit.run.journal import Journal
from mdm_kit.run.kept_files import keep_sources
from mdm_kit.run.manifest_of import Result
from mdm_kit.run.measuring import measure_before
from mdm_kit.run.profile import Profile
from mdm_kit.run.progress import Progress, Silent
from mdm_kit.run.shards import finished_shards, write_shards
from mdm_kit.run.side_files import write_side_files
from mdm_kit.run.work import Kernels, Work
from mdm_kit.versions import libraries
from mdm_kit.words import shown

Restart = Literal["auto", "resume", "fresh"]


@dataclass(frozen=True, slots=True)
class Merged:
    """A finished merge: where it lies, its manifest, each shard's sha256, where time went."""

    out: Path
    plan_digest: str
    shards: dict[str, str]
    nbytes: int
    profile: Profile
    manifest: Manifest


def run_plan(
    plan: Plan,
    out: Path,
    *,
    device: str = "auto",
    restart: Restart = "auto",
    overwrite: bool = False,
    hash_sources: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Merge into the folder `out` and return what was written.

    An interrupted merge of the same plan from the same sources is taken up where it stopped;
    `restart="fresh"` throws it away instead. Raises `FindingsError` where the plan holds errors,
    `OutputExists`, `OutputLocked`, `UsageError` and `RoomError` before any work, `MisfitError`
    (NaN, unequal integers) and `IntegrityError` (a source that changed) from the work itself. After
    any of them `out` is as it was.
    """
    plan.check()
    if restart not in ("auto", "resume", "fresh"):
        raise UsageError(f"restart should be auto, resume or fresh, found {restart!r}")
    out = Path(os.path.abspath(out))  # noqa: PTH100 -- resolve() would follow a link at OUT
    check_output(out, overwrite=overwrite)
    _refuse_inputs(plan, out)
    chosen = pick_device(device)
    progress = progress or Silent()
    budget = plan.budget
    witnesses = {s.name: s.source.witness() for s in plan.sources}
    key = _key(plan, witnesses, chosen.partition(":")[0])
    sources = {s.name: s.source for s in plan.sources}
    work = Work(kernels_of(chosen), sources, known=plan.known, seed=plan.recipe.seed)
    with Stage(out) as stage, stage.told():
        try:
            journal = _journal(stage, key, restart)
            stage.check_room(plan.costs.disk_nbytes - _finished_nbytes(plan, journal))
            result = _write(plan, stage, journal, work, budget, progress)
            _refuse_changed(plan, witnesses)
            models = keep_sources(plan, stage, progress)
            manifest = write_side_files(plan, stage, result, models, chosen, hash_sources, progress)
        except (MisfitError, IntegrityError):
            stage.discard()  # the same again would end the same: there is nothing to resume
            raise
        except BaseException:
            kept = Journal(stage.journal)
            if not kept.shards and not kept.grams and not kept.exact:
                stage.discard()
            raise
        stage.seal(overwrite=overwrite)
    shards = {s.name: result.digests[s.name].sha256 for s in plan.shards}
    return Merged(out, plan.digest, shards, plan.costs.write_nbytes, work.profile, manifest)


def kernels_of(device: str) -> Kernels:
    """Return the arithmetic of a device `pick_device` named."""
    if device == "cpu":
        from mdm_kit.run.cpu_kernels import CpuKernels

        return CpuKernels()
    import torch

    from mdm_kit.run.torch_kernels import TorchKernels

    return TorchKernels(torch.device(device))


def _write(
    plan: Plan,
    stage: Stage,
    journal: Journal,
    work: Work,
    budget: Budget,
    progress: Progress,
) -> Result:
    """Measure what must be known before, then write every shard; take over what is finished."""
    done = finished_shards(plan.shards, stage, journal)
    stage.keep_only(done)
    kept = sum(s.nbytes for s in plan.shards if s.name in done)
    if done:
        progress.say(f"resuming: {len(done)} of {len(plan.shards)} shards are finished, unharmed")
    measure_before(plan.writes, work, budget, journal, progress)
    progress.start(sum(s.nbytes for s in plan.shards), kept)
    digests = write_shards(plan.shards, done, stage, journal, work, budget, progress)
    return Result(digests, work.grams, work.exact, work.groups, work.weights)


def _key(plan: Plan, witnesses: dict[str, str], device: str) -> str:
    parts = [plan.digest, witnesses, device, libraries()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _journal(stage: Stage, key: str, restart: Restart) -> Journal:
    journal = Journal(stage.journal)
    if restart == "fresh" or journal.key is None:
        stage.clear()
        journal.start(key)
    elif journal.key != key:
        raise UsageError(
            f"{shown(str(work_folder(stage.out)))} holds an interrupted merge of another plan "
            "(another recipe, other options, or a model that changed since); "
            "--fresh throws it away and starts anew"
        )
    return journal


def _finished_nbytes(plan: Plan, journal: Journal) -> int:
    return sum(s.nbytes for s in plan.shards if s.name in journal.shards)


def _refuse_inputs(plan: Plan, out: Path) -> None:
    for source in plan.sources:
        path = source.source.origin().path
        if path is None:
            continue
        folder = Path(path)
        target = out.resolve()
        if folder == target or folder in target.parents or target in folder.parents:
            raise UsageError(
                f"the output {shown(str(out))} and the model {source.name} lie in one another; "
                "name an output outside of every model that is read"
            )


def _refuse_changed(plan: Plan, witnesses: dict[str, str]) -> None:
    for source in plan.sources:
        if source.source.witness() != witnesses[source.name]:
            raise IntegrityError(
                f"{source.name} changed while it was being merged; nothing was written. "
                "Run again when its files are at rest"
            )
