"""Makes a plan from a recipe and a survey: the one door every merge goes through."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mdm_kit.ledger.entries import SourceEntry
from mdm_kit.ledger.products import Products
from mdm_kit.methods.contract import Method
from mdm_kit.planner.compat import as_in_mergekit
from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES, Budget, Costs, costs
from mdm_kit.planner.factoring import on_factors
from mdm_kit.planner.grounds import grounds_of
from mdm_kit.planner.layer_config import layer_edits
from mdm_kit.planner.layout import lay_out
from mdm_kit.planner.licences import Terms
from mdm_kit.planner.mixing import Mixed
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.parameters import Parameters, idle_filters
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.planner.sections import Sections
from mdm_kit.planner.staging import plan_in_stages
from mdm_kit.planner.sums import KEPT_SUMS
from mdm_kit.planner.survey import (
    Opening,
    Survey,
    Surveyed,
    references_of,
    side_files_of,
)
from mdm_kit.planner.weight_files import own_files
from mdm_kit.planner.writes import Starting, Written, copy_of, taking_part, writes_of
from mdm_kit.recipe import Recipe
from mdm_kit.sources import Source
from mdm_kit.words import Finding, Kind, Level, shown

DEFAULT_SHARD_NBYTES = 5_000_000_000
"""transformers and mergekit shard at 5 GB."""


def default_threads() -> int:
    """Return one worker per core this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def make_plan(
    recipe: Recipe,
    *,
    shard_nbytes: int = DEFAULT_SHARD_NBYTES,
    threads: int | None = None,
    memory_nbytes: int = DEFAULT_MEMORY_NBYTES,
    given: Mapping[str, Source] | None = None,
    filename: str = "recipe.yml",
    known: Products | None = None,
    compat: bool = False,
    download: bool = False,
    earlier: Mapping[str, SourceEntry] | None = None,
    starting: Starting | None = None,
) -> Plan:
    """Plan a merge from headers alone.

    `given` maps references, as the recipe writes them, to sources that are open already. `known`
    are inner products of the first models, or of all. `earlier` are an earlier merge's entries by
    reference: a source may be a copy of a model the Hub had then. With `compat` the arithmetic is
    mergekit's, with `download` models of the Hub go through its client's cache, whole. `starting`
    is an earlier merge whose models are not read again but for those that join or leave it. The
    plan holds its sources open: close it. Everything found stands in `plan.findings`; a plan with
    errors there has no shards, and `plan.check()` raises. Takes under 2 s for 10,000 tensors.
    """
    budget = Budget(threads or default_threads(), memory_nbytes)

    def alone(
        document: Recipe,
        given: Mapping[str, Source] | None = given,
        absent: Collection[str] = (),
        terms: Terms | None = None,
    ) -> Plan:
        return _planned(
            document,
            budget,
            Opening(given or {}, download=download, absent=absent),
            terms,
            shard_nbytes=shard_nbytes,
            filename=filename,
            known=known,
            compat=compat,
            earlier=earlier or {},
            starting=starting,
        )

    if recipe.stages:
        return plan_in_stages(recipe, alone, given or {}, earlier or {}, compat=compat)
    return alone(recipe)


def _planned(
    recipe: Recipe,
    budget: Budget,
    opening: Opening,
    terms: Terms | None,
    *,
    shard_nbytes: int,
    filename: str,
    known: Products | None,
    compat: bool,
    earlier: Mapping[str, SourceEntry],
    starting: Starting | None,
) -> Plan:
    """Plan one document; `terms` are those of its result, where they do not follow from it."""
    grounds = grounds_of(recipe, opening, terms, earlier, compat=compat, starting=starting)
    surveyed, method = grounds.survey, grounds.method
    found, parts, mixed = grounds.findings, grounds.parts, grounds.mixed
    if method is None or not grounds.are_sound():
        return _empty(recipe, filename, found, surveyed)
    side_nbytes, problems = side_files_of(surveyed.donor)
    found += problems
    written = _written(recipe, method, parts, starting, surveyed.donor)
    writes = written.writes + mixed.writes
    edits, problems = layer_edits(surveyed.donor.config, parts.stacks)
    dropped = _dropped(recipe, surveyed.donor, writes)
    found += [*written.findings, *problems, *_told(surveyed.donor, dropped)]
    if not grounds.are_sound():
        return _empty(recipe, filename, found, surveyed)
    if compat:
        writes = [as_in_mergekit(w, recipe) for w in writes]
    else:
        writes = on_factors(writes, surveyed, keeps=recipe.ledger == KEPT_SUMS)
    shards = lay_out(writes, shard_nbytes)
    moved = grounds.vocabulary.moved
    products = _usable(known or Products(), [w for w in writes if w.name not in moved])
    complete = products.plain if len(products.models) == _n_models(writes) else ()
    budget = replace(budget, known=frozenset(complete))
    sources = [*surveyed.sources, *((starting.sums,) if starting else ()), *mixed.made]
    return Plan(
        recipe=recipe,
        method=method.name,
        donor=surveyed.donor.name,
        sources=tuple(
            _in_role(replace(planned(s, recipe, method), unused=_unused(s, parts)), starting, mixed)
            for s in sources
        ),
        shards=shards,
        findings=tuple(dict.fromkeys(found)),
        costs=_with_prompts(
            costs(sources, shards, budget, side_nbytes, recipe.ledger), surveyed.donor, mixed
        ),
        budget=budget,
        filename=filename,
        known=products,
        terms=grounds.terms,
        sections=tuple((s.recipe, frozenset(s.places)) for s in parts.sections),
        config_edits=(*edits, *mixed.edits),
        dropped=dropped,
        tokenizer=grounds.vocabulary.written,
    )


def _written(
    recipe: Recipe,
    method: Method,
    parts: Sections,
    starting: Starting | None,
    donor: Surveyed,
) -> Written:
    """Return the output tensors of all sections, and of what belongs to none."""
    recipes = [section.recipe for section in parts.sections]
    each = [
        writes_of(s, method, Parameters(method, s.recipe, taking_part(s.recipe, method)), starting)
        for s in parts.sections
    ]
    made = [w for one in each for w in one.writes]
    names = {w.name for w in made} | {r.info.name for w in made for r in w.reads()}
    found = [f for one in each for f in one.findings] + idle_filters((recipe, *recipes), names)
    if each:
        found += [f for f in each[0].idle if all(f in one.idle for one in each)]
    made += [
        copy_of(recipe, name, info, donor.as_stored(info).dtype)
        for name, info in parts.untouched.items()
    ]
    return Written(made, found)


def _dropped(recipe: Recipe, donor: Surveyed, writes: Sequence[Write]) -> tuple[str, ...]:
    """Return the donor's tensors that the result lacks, and none of it is made of."""
    kept = {r.info.name for w in writes for r in w.reads()}
    if not recipe.renumbers:
        # Else layers have new numbers: what is called as the donor's tensor need not stand for it.
        kept |= {w.name for w in writes}
    tensors = donor.checkpoint.tensors
    return tuple(n for n, info in tensors.items() if n not in kept and info.name not in kept)


def _told(donor: Surveyed, dropped: Sequence[str]) -> list[Finding]:
    if not dropped:
        return []
    names = ", ".join(shown(n, 80) for n in dropped[:3]) + (", …" if len(dropped) > 3 else "")
    what = f"{len(dropped):,} tensors of {donor.name} are in no slice, and are dropped: {names}"
    return [Finding(Level.NOTE, Kind.RECIPE, what, place=donor.place)]


def _in_role(source: PlannedSource, starting: Starting | None, mixed: Mixed) -> PlannedSource:
    """Return a source in the role it has where it is neither model nor base."""
    if any(source.name == made.name for made in mixed.made):
        return replace(source, role="made")
    if starting is None:
        return source
    if source.name == starting.sums.name:
        return replace(source, role="sums")
    if starting.leaves and any(source.name == s.name for s in starting.survey.models):
        return replace(source, role="leaving")
    return source


def _unused(model: Surveyed, parts: Sections) -> tuple[str, ...]:
    """Return a model's tensors that no section has anything of."""
    views = [s for section in parts.sections for s in section.survey.sources]
    return tuple(dict.fromkeys(n for s in views if s.name == model.name for n in s.unused))


def _usable(known: Products, writes: Sequence[Write]) -> Products:
    """Return the products of tensors whose deltas are formed as they were when it was measured."""
    applies = {w.name: a for w in writes if (a := w.apply()) is not None and a.group is not None}
    partial = {w.name for w in writes if w.without}
    fitting = [
        name
        for name, apply in applies.items()
        if (apply.compute == "float64") == (name in known.wide) and name not in partial
        # Factors are measured anew, which costs nothing: whatever was merged with them before.
        if not apply.is_factored and name not in known.factored
    ]
    return known.only(frozenset(fitting))


def _with_prompts(found: Costs, base: Surveyed, mixed: Mixed) -> Costs:
    """Return the costs with what is read of a mixture's base for the prompts' sake."""
    nbytes = mixed.prompts_nbytes
    far = nbytes if base.source.is_far else 0
    return replace(
        found,
        read_nbytes=found.read_nbytes + nbytes,
        download_nbytes=found.download_nbytes + far,
    )


def _n_models(writes: Sequence[Write]) -> int:
    return max((len(a.inputs) for w in writes if (a := w.apply()) is not None), default=0)


def _empty(
    recipe: Recipe, filename: str, found: Sequence[Finding], surveyed: Survey | None = None
) -> Plan:
    if surveyed is not None:
        surveyed.close()
    method = recipe.merge_method.text
    none = Budget(1)
    return Plan(recipe, method, "", (), (), tuple(found), costs((), (), none, 0), none, filename)


def planned(s: Surveyed, recipe: Recipe, method: Method) -> PlannedSource:
    """Return a surveyed model as a plan lists it."""
    origin = s.source.origin()
    refs = references_of(recipe)
    takes_part = any(m.name == s.name for m in taking_part(recipe, method))
    files = [(f.name, f.nbytes, f.header_sha256) for f in s.checkpoint.files]
    return PlannedSource(
        name=s.name,
        ref=refs.get(s.name, refs[None]),
        role="model" if takes_part else "base",
        repo=origin.repo,
        commit=origin.commit,
        headers_sha256="sha256:" + hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        n_tensors=len(s.checkpoint.tensors),
        nbytes=sum(f.nbytes for f in own_files(s)),
        download_nbytes=sum(f.nbytes for f in own_files(s) if not f.in_cache),
        source=s.source,
        checkpoint=s.checkpoint,
        config=s.config,
        lent=s.lent,
        alignment=s.alignment,
    )
