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
from mdm_kit.planner.originals import originals_of
from mdm_kit.planner.plan import Plan
from mdm_kit.run.delivery import Delivery
from mdm_kit.run.devices import pick_device
from mdm_kit.run.journal import Journal
from mdm_kit.run.kept_files import keep_sources
from mdm_kit.run.kept_sums import keep_sums
from mdm_kit.run.making import kernels_of, make_tensors, work_of
from mdm_kit.run.outlet import Outlet, Published
from mdm_kit.run.profile import Profile
from mdm_kit.run.progress import Progress, Silent
from mdm_kit.run.side_files import write_side_files
from mdm_kit.run.source_entries import Noted, seen_digests
from mdm_kit.run.stages import made_stages
from mdm_kit.versions import libraries
from mdm_kit.words import shown

Restart = Literal["auto", "resume", "fresh"]


@dataclass(frozen=True, slots=True)
class Merged:
    """A finished merge: where it lies, its manifest, each shard's sha256, where time went.

    `published` says where it was pushed to, None where it was not; a merge that is not kept here
    (`no_local`) has no folder `out`.
    """

    out: Path
    plan_digest: str
    shards: dict[str, str]
    nbytes: int
    profile: Profile
    manifest: Manifest
    published: Published | None = None


def run_plan(
    plan: Plan,
    out: Path,
    *,
    device: str = "auto",
    restart: Restart = "auto",
    overwrite: bool = False,
    hash_sources: bool = False,
    progress: Progress | None = None,
    outlet: Outlet | None = None,
) -> Merged:
    """Merge into the folder `out` and return what was written.

    An `outlet` gets each shard as soon as it is finished, and publishes the merge at the end. Where
    it keeps nothing here, `out` is only the place of the work folder, and is not written.

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
    keeps = outlet is None or outlet.keeps
    check_output(out, overwrite=overwrite or not keeps)
    _refuse_inputs(plan, out)
    chosen = pick_device(device)
    progress = progress or Silent()
    witnesses = {s.name: s.source.witness() for s in originals_of(plan)}
    key = _key(plan, witnesses, chosen.partition(":")[0])
    kernels = kernels_of(chosen)
    published = None
    with Stage(out) as stage, stage.told():
        try:
            journal = _journal(stage, key, restart)
            delivery = Delivery(stage, journal, outlet)
            stage.check_room(delivery.room_nbytes(plan))
            with made_stages(plan, stage.stages, kernels, journal, progress, key) as foresight:
                work = work_of(plan, stage, kernels, foresight)
                result = make_tensors(plan, stage, journal, work, progress, delivery)
                _refuse_changed(plan, witnesses)
                models = keep_sources(plan, stage, progress, foresight)
                models = models.with_sums(keep_sums(work.summing.sums, stage, progress))
                foresight.settle()
                if journal.seen is None:
                    journal.saw(seen_digests(plan))
                noted = Noted(journal.time, journal.seen or {})
                manifest = write_side_files(
                    plan, stage, result, models, chosen, hash_sources, noted, progress
                )
            delivery.settle()
            if not keeps:
                published = delivery.publish(stage.model, manifest)
        except BaseException as error:
            _leave(stage, error)
            raise
        if keeps:
            stage.seal(overwrite=overwrite)
        else:
            stage.discard()
    if keeps:
        published = delivery.publish(out, manifest)
    shards = {s.name: result.digests[s.name].sha256 for s in plan.shards}
    nbytes = plan.costs.write_nbytes
    return Merged(out, plan.digest, shards, nbytes, work.profile, manifest, published)


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


def _leave(stage: Stage, error: BaseException) -> None:
    """Throw the work folder away where nothing in it is worth going on from."""
    if isinstance(error, MisfitError | IntegrityError):
        stage.discard()  # the same again would end the same: there is nothing to resume
        return
    kept = [Journal(path) for path in (stage.journal, *stage.stages.glob(".*/journal.jsonl"))]
    if not any(j.shards or j.grams or j.exact or j.facts or j.stages for j in kept):
        stage.discard()


def _refuse_inputs(plan: Plan, out: Path) -> None:
    for source in originals_of(plan):
        origin = source.source.origin()
        for path in (origin.path, origin.adapter.path if origin.adapter else None):
            folder, target = Path(path or "."), out.resolve()
            if path is None:
                continue
            if folder == target or folder in target.parents or target in folder.parents:
                raise UsageError(
                    f"the output {shown(str(out))} and the model {source.name} lie in one another; "
                    "name an output outside of every model that is read"
                )


def _refuse_changed(plan: Plan, witnesses: dict[str, str]) -> None:
    for source in originals_of(plan):
        if source.source.witness() != witnesses[source.name]:
            raise IntegrityError(
                f"{source.name} changed while it was being merged; nothing was written. "
                "Run again when its files are at rest"
            )
