"""What a manifest says of the earlier documents of a recipe."""

from __future__ import annotations

from collections.abc import Mapping

from mdm_kit.ledger.entries import StageEntry, StageModel
from mdm_kit.planner.originals import originals_of
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.recipe import Recipe


def stage_entries(plan: Plan, references: Mapping[str, str]) -> list[StageEntry]:
    """Return the entries of a plan's stages; `references` gives each model's public name."""
    public = references_in(plan, references)
    return [
        StageEntry(
            name=stage.name,
            method=stage.plan.method,
            seed=stage.plan.recipe.seed,
            plan=stage.plan.digest,
            compute=computes_of(stage.plan),
            models=[StageModel(s.name, public[s.ref]) for s in stage.plan.sources],
        )
        for stage in plan.stages
    ]


def references_in(plan: Plan, references: Mapping[str, str]) -> dict[str, str]:
    """Return what each reference of the recipe is called in public, a stage by its own name."""
    models = {s.ref: references[s.name] for s in originals_of(plan) if s.name in references}
    return models | {s.name: s.name for s in plan.stages}


def computes_of(plan: Plan) -> list[str]:
    """Return the dtypes of a plan's arithmetic."""
    return sorted({a.compute for w in plan.writes if (a := w.apply()) is not None})


def document_of(source: PlannedSource, plan: Plan) -> Recipe:
    """Return the document whose parameters a model has: the last one that merges it."""
    documents = [plan.recipe, *(s.plan.recipe for s in reversed(plan.stages))]
    named = (d for d in documents if any(str(m.ref) == source.ref for m in d.models))
    return next(named, plan.recipe)
