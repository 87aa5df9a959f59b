"""The models a plan reads, over all its stages: what a result was made of in the end."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from itertools import chain, count

from mdm_kit.planner.plan import Plan, PlannedSource


def originals_of(plan: Plan) -> tuple[PlannedSource, ...]:
    """Return every model that is read, each once under a name of its own; no result of a stage.

    Names of the last document stay, and what it lists twice stands twice. A model that is merged
    anywhere has the role `model`.
    """
    if not plan.stages:
        return plan.sources
    found: dict[str, PlannedSource] = {}
    taken = {s.name for s in plan.sources} | {s.name for s in plan.stages}
    own = {s.ref: s.name for s in reversed(plan.sources)}
    copies = {id(s): s for s in plan.sources if own[s.ref] != s.name and s.role != "made"}
    for s in (s for part in (*(s.plan for s in plan.stages), plan) for s in part.sources):
        if s.source.origin().kind == "stage" or id(s) in copies or s.role == "made":
            continue
        first = found.get(s.ref)
        if first is None:
            name = own.get(s.ref) or _free(s.name, taken)
            taken.add(name)
            found[s.ref] = replace(s, name=name)
        elif s.role == "model":
            found[s.ref] = replace(first, role="model")
    return (*found.values(), *copies.values())


def _free(name: str, taken: Container[str]) -> str:
    return next(n for n in chain((name,), (f"{name}-{i}" for i in count(2))) if n not in taken)
