"""Plans a recipe of several documents: each by itself, on what those before it will have made.

A stage is planned as if it were merged alone. Its result takes part in later ones as the folder
would that it could be written to, so that streaming it changes no byte.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from mdm_kit.ledger.entries import SourceEntry
from mdm_kit.methods.registry import methods
from mdm_kit.planner.licences import Parent, Terms, parents_of, terms_of
from mdm_kit.planner.maps import map_rule
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.originals import originals_of
from mdm_kit.planner.plan import Plan, PlannedStage
from mdm_kit.planner.stage_costs import staged_costs
from mdm_kit.planner.stage_source import StageSource
from mdm_kit.recipe import Recipe
from mdm_kit.sources import Source
from mdm_kit.sources.aligned import as_stored
from mdm_kit.words import Finding, Kind, Level, Place, shown


class PlanOne(Protocol):
    """Plans one document; `absent` are references nobody can open, `terms` those of its result."""

    def __call__(
        self,
        document: Recipe,
        given: Mapping[str, Source],
        absent: Collection[str],
        terms: Terms | None,
    ) -> Plan:
        """Return the plan, with what is wrong among its findings."""


@dataclass(slots=True)
class _Stages:
    """The stages planned so far: what later documents can use, and what they cannot have."""

    given: dict[str, Source]
    planned: list[PlannedStage] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def add(self, document: Recipe, plan: Plan, *, compat: bool) -> None:
        """Take the plan of a stage in; one with errors gives nothing."""
        name = document.name or ""
        whole = _of_the_last(document)
        self.findings += [*plan.findings, *_shadowed(document), *whole]
        if plan.exit_code or not plan.shards or whole:
            self.absent.add(name)
            plan.close()
            return
        donor = plan.source(plan.donor).source
        edits = {e.path: e.value for e in plan.config_edits}
        source = StageSource(name, plan.shards, donor, edits, plan.costs.side_nbytes)
        streams = not compat and all(map(_streams, plan.writes))
        self.planned.append(PlannedStage(name, plan, source, streams))
        self.given |= {s.ref: as_stored(s.source) for s in plan.sources} | {name: source}

    def close(self) -> None:
        for stage in self.planned:
            stage.plan.close()


def _streams(write: Write) -> bool:
    """Whether a tensor can be made when it is asked for: nothing else has a say in it."""
    apply = write.apply()
    if apply is None:
        return True
    if apply.is_factored and methods()[apply.method].keeps_sums:
        return False  # its factors are merged before
    return map_rule(write) is None and (apply.group is None or apply.alone)


def _of_the_last(document: Recipe) -> list[Finding]:
    """Return errors for what only a last document can have: files that no headers tell."""
    found = []
    tokenizer = document.tokenizer
    if tokenizer is not None and not tokenizer.is_plain:
        found.append(("rows of tokens are moved", document.place_of("tokenizer")))
    if document.chat_template is not None:
        found.append(("a chat template is written", document.place_of("chat_template")))
    if document.mixture is not None:
        found.append(("a mixture is made", document.place_of("experts")))
    hint = "merge this document by itself, and name its folder in the next"
    return [
        Finding(
            Level.ERROR,
            Kind.RECIPE,
            f"{what} by the last document of a recipe only",
            hint,
            place or document.merge_method.place,
        )
        for what, place in found
    ]


def _shadowed(document: Recipe) -> list[Finding]:
    """Return a note where a folder has the name of a stage, which is not read then."""
    name = document.name or ""
    if not Path(name).is_dir():
        return []
    what = f"{shown(name)!r} means the stage of this recipe, not the folder that is called so"
    place = document.place_of("name")
    return [Finding(Level.NOTE, Kind.RECIPE, what, f"write ./{shown(name)} for it", place)]


def plan_in_stages(
    recipe: Recipe,
    plan_one: PlanOne,
    given: Mapping[str, Source],
    earlier: Mapping[str, SourceEntry],
    *,
    compat: bool,
) -> Plan:
    """Return the plan of the last document, with those of its stages, each model opened once.

    Everything found in any document stands in its findings. `earlier` are what an earlier merge
    says of models, by reference: a source may be a copy of one the Hub had then.
    """
    stages = _Stages(dict(given))
    for document in recipe.stages:
        made = plan_one(document, stages.given, stages.absent, Terms())
        stages.add(document, made, compat=compat)
    last = plan_one(recipe, stages.given, stages.absent, Terms())
    found = [*stages.findings, *last.findings, *_unsettled(last, stages.planned)]
    plan = replace(last, stages=tuple(stages.planned))
    if plan.shards:
        terms = _terms(plan, earlier)
        found += terms.findings
        plan = replace(plan, terms=terms)
    plan = replace(plan, findings=tuple(dict.fromkeys(found)))
    if plan.exit_code or not plan.shards:
        last.close()
        stages.close()
        return replace(plan, sources=(), shards=(), stages=())
    return replace(plan, costs=staged_costs(plan))


def _terms(plan: Plan, earlier: Mapping[str, SourceEntry]) -> Terms:
    """Return what the licences of all models, in whatever stage, mean for the result."""
    parents: list[Parent] = []
    places = {}
    for s in originals_of(plan):
        parents += parents_of(s.name, s.source, earlier.get(s.ref))
        places[s.name] = _place(plan.recipe, s.ref)
    return terms_of(parents, plan.recipe, places)


def _place(recipe: Recipe, ref: str) -> Place:
    return next(r.place for r in recipe.references if str(r.ref) == ref)


def _unsettled(last: Plan, stages: list[PlannedStage]) -> list[Finding]:
    """Return an error where a method asks for ties that only the weights of a stage can tell."""
    found = []
    donors = [(plan, plan.donor) for plan in (*(s.plan for s in stages), last) if plan.shards]
    for plan, donor in donors:
        source = as_stored(plan.source(donor).source)
        if methods()[plan.method].matrix_rule is None or not isinstance(source, StageSource):
            continue
        if not source.is_settled:
            what = (
                f"{plan.method} treats a tied output head otherwise, and whether that of "
                f"{shown(donor)} equals its embedding is only known once it is made"
            )
            hint = "merge that stage into a folder first, and name the folder"
            place = plan.recipe.merge_method.place
            found.append(Finding(Level.ERROR, Kind.RECIPE, what, hint, place))
    return found
