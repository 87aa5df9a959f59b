"""A merge made again from its models, without writing it: does it come out the same?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mdm_kit.bundle.shard_file import Digester
from mdm_kit.errors import UsageError
from mdm_kit.ledger.entries import SummedTensor, SumsEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.ledger.removal import Remade
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.edit import Settings
from mdm_kit.planner.edits import plan_rebuild
from mdm_kit.planner.parents import Parents
from mdm_kit.planner.patches import plan_as_patched
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.planning import DEFAULT_SHARD_NBYTES, default_threads
from mdm_kit.run.devices import pick_device
from mdm_kit.run.executor import stream
from mdm_kit.run.interference import largest_cosine_left
from mdm_kit.run.making import kernels_of, sources_of
from mdm_kit.run.measuring import measure_before
from mdm_kit.run.progress import Silent
from mdm_kit.run.shards import jobs_of
from mdm_kit.run.stages import made_stages
from mdm_kit.run.summing import Summing
from mdm_kit.run.summing_before import sum_before
from mdm_kit.run.sums import Sums
from mdm_kit.run.tile import Batch, await_sums
from mdm_kit.run.work import Work
from mdm_kit.versions import libraries
from mdm_kit.words import shown


def remade(
    parents: Parents, products: Products, advance: Callable[[int], None] = lambda _: None
) -> Remade:
    """Measure and fold a merge again and compare inner products and tensors with the manifest's.

    Reads every model once or twice and writes nothing; `advance` is told the bytes of output made.
    Raises `UsageError` for an exact patch, which no folding repeats, and what opening and reading
    the models raises.
    """
    manifest = parents.manifest
    if manifest.sums is not None and manifest.sums.rounded:
        n = manifest.sums.rounded
        who = "model holds" if n == 1 else f"{n} models hold"
        raise UsageError(
            f"what its first {who} was read back from rounded weights, which merging anew does "
            "not repeat: its digests can be verified"
        )
    if manifest.patched == "exact":
        raise UsageError(
            "the weights were patched by --mode exact, which folding does not repeat: its digests "
            "can be verified, and unmerge --mode rebuild makes a merge that --deep can check"
        )
    settings = Settings(DEFAULT_SHARD_NBYTES, Budget(default_threads()))
    if manifest.patched:
        made = plan_as_patched(parents, products, settings)
    else:
        made = plan_rebuild(parents, Products(), (), settings)
    with made as plan:
        plan.check()
        kernels = kernels_of(pick_device("cpu"))
        with (
            tempfile.TemporaryDirectory() as folder,
            made_stages(plan, Path(folder) / "stages", kernels, None, Silent()) as foresight,
        ):
            work = Work(
                kernels,
                sources_of(plan),
                seed=plan.recipe.seed,
                foresight=foresight,
                summing=Summing(Sums(Path(folder), plan.shards, keeps=False)),
            )
            measure_before(plan.writes, work, plan.budget, None, Silent())
            sum_before(plan.writes, work, plan.budget, None, Silent())
            faults = _tensor_faults(manifest, _digests(plan, work, advance))
            if manifest.patched:
                return Remade(tuple(faults))
            faults += _product_faults(products, work)
            faults += _sum_faults(manifest.sums, work.summing.entry(plan.writes), faults)
            found = largest_cosine_left(plan, work)
            return Remade(tuple(faults), *(found or (None, None)))


def _digests(plan: Plan, work: Work, advance: Callable[[int], None]) -> dict[str, str]:
    found: dict[str, str] = {}
    for shard in plan.shards:
        digester = Digester(shard.header, [p.write.nbytes for p in shard.tensors])
        jobs = work.ahead(jobs_of(shard, work, plan.budget))
        for job, out in stream(jobs, work, plan.budget.threads, work.foresight.give_up, await_sums):
            digester.update(out.data[job.lead :])
            advance(job.nbytes)
            if isinstance(job, Batch):
                work.summing.collect(job.ended)  # which lets go of their sums
        names = [p.write.name for p in shard.tensors]
        work.summing.collect(names)
        found |= dict(zip(names, digester.digests().tensors, strict=True))
    return found


def _tensor_faults(manifest: Manifest, found: Mapping[str, str]) -> list[str]:
    other = {n: v for n, v in libraries().items() if manifest.libraries.get(n) != v}
    why = ""
    if other:
        listed = ", ".join(f"{n} {manifest.libraries.get(n, 'none')}" for n in other)
        why = f" (it was made with {listed}; there a tensor may be one step of its dtype away)"
    return [
        f"tensor {shown(name)}: made again from its models it is another{why}"
        for name, entry in manifest.tensors.items()
        if found.get(name) != entry.blake3
    ]


def _product_faults(products: Products, work: Work) -> list[str]:
    if not products.plain:
        return []

    def differ(kept: Mapping[str, Gram], found: Mapping[str, Gram]) -> list[str]:
        return [n for n, g in kept.items() if n in found and not _same(g, found[n])]

    names = [*differ(products.plain, work.grams), *differ(products.exact, work.exact)]
    return [f"ledger: {shown(n)}: its inner products are not those of the models" for n in names]


def _sum_faults(
    said: SumsEntry | None, found: SumsEntry | None, others: Sequence[str]
) -> list[str]:
    """Compare what the manifest says of sums with those that were made again.

    Where tensors came out otherwise, for whatever reason, their numbers may too.
    """
    if said is None or found is None or others:
        return []
    return [
        f"sums: {shown(name)}: its {what} are not those of the models"
        for name, fact in said.tensors.items()
        if (what := _differs(fact, found.tensors[name]))
    ]


def _differs(said: SummedTensor, found: SummedTensor) -> str | None:
    if said.counts != found.counts:
        return "countings"
    if said.ranks != found.ranks:
        return "ranks"
    numbers = (
        ("energies", said.energies, found.energies),
        ("totals", said.totals, found.totals),
        ("shares", said.kept, found.kept),
    )
    for what, one, other in numbers:
        if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other, strict=True)):
            return what
    return None


def _same(kept: Gram, found: Gram) -> bool:
    """Whether two Gram matrices are equal but for the rounding of another machine."""
    return len(kept.triangle) == len(found.triangle) and all(
        abs(kept.at(i, j) - found.at(i, j)) <= 1e-12 * math.sqrt(kept.at(i, i) * kept.at(j, j))
        for i in range(kept.n)
        for j in range(i + 1)
    )
