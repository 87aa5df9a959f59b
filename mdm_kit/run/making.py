"""Makes the tensors of one plan: what is measured before, then every shard."""

from __future__ import annotations

from collections.abc import Mapping

from mdm_kit.bundle.stage import Stage
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.sums import KEPT_SUMS, sum_rule
from mdm_kit.run.delivery import Delivery
from mdm_kit.run.foresight import Foresight
from mdm_kit.run.journal import Journal
from mdm_kit.run.manifest_of import Result
from mdm_kit.run.measuring import measure_before
from mdm_kit.run.progress import Progress
from mdm_kit.run.shards import finished_shards, write_shards
from mdm_kit.run.summing import Summing
from mdm_kit.run.summing_before import sum_before
from mdm_kit.run.sums import Sums
from mdm_kit.run.work import Kernels, Work
from mdm_kit.sources import Source


def kernels_of(device: str) -> Kernels:
    """Return the arithmetic of a device `pick_device` named."""
    if device == "cpu":
        from mdm_kit.run.cpu_kernels import CpuKernels

        return CpuKernels()
    import torch

    from mdm_kit.run.torch_kernels import TorchKernels

    return TorchKernels(torch.device(device))


def work_of(plan: Plan, stage: Stage, kernels: Kernels, foresight: Foresight) -> Work:
    """Return what does the jobs of a plan whose sums grow in `stage`."""
    return Work(
        kernels,
        sources_of(plan),
        known=plan.known,
        seed=plan.recipe.seed,
        foresight=foresight,
        summing=_summing(plan, stage),
    )


def sources_of(plan: Plan) -> Mapping[str, Source]:
    """Return what a plan reads, by the names it has there."""
    return {s.name: s.source for s in plan.sources}


def make_tensors(
    plan: Plan,
    stage: Stage,
    journal: Journal,
    work: Work,
    progress: Progress,
    delivery: Delivery,
) -> Result:
    """Measure what must be known before, then write every shard; take over what is finished."""
    budget = plan.budget
    work.summing.take_over(plan.writes, journal)
    done = finished_shards(plan.shards, stage, journal, delivery)
    if work.summing.sums.keeps:
        done = {n: d for n, d in done.items() if _is_summed(plan, n, work.summing)}
    stage.keep_only([name for name in done if not delivery.is_away(name)])
    kept = sum(s.nbytes for s in plan.shards if s.name in done)
    if done:
        progress.say(f"resuming: {len(done)} of {len(plan.shards)} shards are finished, unharmed")
    for shard in plan.shards:
        if shard.name in done:
            delivery.resume(shard, done[shard.name])
    measure_before(plan.writes, work, budget, journal, progress)
    sum_before(plan.writes, work, budget, journal, progress)
    progress.start(sum(s.nbytes for s in plan.shards), kept)
    digests = write_shards(plan.shards, done, stage, journal, work, budget, progress, delivery)
    return Result(
        digests, work.grams, work.exact, work.groups, work.weights, work.summing.entry(plan.writes)
    )


def _summing(plan: Plan, stage: Stage) -> Summing:
    """Return where a plan's sums grow, beside the shards."""
    budget, edit = plan.budget, plan.edit
    keeps = plan.recipe.ledger == KEPT_SUMS
    sums = Sums(stage.sums, plan.shards, keeps=keeps, most_nbytes=budget.array_nbytes)
    return Summing(sums, edit.parent.sums if edit else None, budget.memory_nbytes)


def _is_summed(plan: Plan, shard: str, summing: Summing) -> bool:
    tensors = next(s.tensors for s in plan.shards if s.name == shard)
    return all(p.write.name in summing.facts for p in tensors if sum_rule(p.write) is not None)
