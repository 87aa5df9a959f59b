"""Reads the models of a plan beside its base, once, and says what each changed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from mdm_kit.errors import UsageError
from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread
from mdm_kit.planner.originals import originals_of
from mdm_kit.planner.patterns import layer_position
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.run.advising import advice_on
from mdm_kit.run.change_kinds import kind_of, representatives
from mdm_kit.run.change_products import Comparison, Floats, Stored, Tile, measure, tiles_of
from mdm_kit.run.change_structure import structure_of
from mdm_kit.run.executor import Bytes, stream
from mdm_kit.run.foresight import Foresight
from mdm_kit.run.inspected import InspectedModel, Inspection, MapStructure, PairCosine
from mdm_kit.run.progress import Progress
from mdm_kit.sources.adapted import adapted
from mdm_kit.sources.rows import numbers
from mdm_kit.words import DTYPES


@dataclass(frozen=True, slots=True)
class _Sums:
    """The sums of one tensor: ‖base‖², changed elements and (k, k) products of all models."""

    n_elements: int
    base: float
    changed: tuple[int, ...]
    gram: Floats


def inspect_plan(plan: Plan, progress: Progress) -> Inspection:
    """Return what a plan's models changed of its base, tensor by tensor of the same shape.

    In constant memory, with the plan's threads, on which the result does not depend. An adapter's
    tensors that it leaves alone are not read. Raises `FindingsError` for a plan with errors,
    `UsageError` where there is nothing to compare, `NotFiniteError`, and what sources raise.
    """
    plan.check()
    base, models, notes = _who(plan)
    if not models:
        raise UsageError(f"expected a model beside {base.name} to compare with it, found none")
    reads = _comparisons(base, models)
    read_nbytes = sum(c.nbytes for c in reads)
    progress.start(read_nbytes, 0)
    with Foresight(tuple({id(s.source): s.source for s in (base, *models)}.values())) as foresight:
        sums = _measured(reads, len(models), plan.budget.threads, foresight, progress)
    found, again = [], 0
    for i, model in enumerate(models):
        own = model.checkpoint.tensors
        mine = {
            c.name: sums[c.name]
            for c in reads
            if i in c.places or (c.name in own and _is_left(model, base, own[c.name].name))
        }
        changed = {n for n, s in mine.items() if s.changed[i]}
        maps = []
        for name in representatives(changed, base.checkpoint.tensors):
            one = next(c for c in reads if c.name == name)
            stored = one.models[one.places.index(i)]
            again += one.base.info.nbytes + stored.info.nbytes
            maps.append(_structure(one.base, stored, name))
        found.append(_model(base, model, i, mine, tuple(maps)))
    result = Inspection(
        reference=base.name,
        is_base=plan.recipe.base_model is not None and base.name == plan.donor,
        models=tuple(found),
        pairs=_pairs([m.name for m in models], sums),
        notes=notes,
        read_nbytes=read_nbytes,
        again_nbytes=again,
    )
    return replace(result, advice=advice_on(result))


def _who(plan: Plan) -> tuple[PlannedSource, list[PlannedSource], tuple[str, ...]]:
    """Return what is compared with, the models, and what is to be said of the choice."""
    there = [s for s in originals_of(plan) if s.role in ("base", "model")]
    named = [s for s in there if s.name == plan.donor]
    base = (named or [s for s in there if s.role == "base"] or there)[0]
    notes = []
    if not named:
        notes.append(f"the last merge begins with a stage: models are compared with {base.name}")
    elif plan.recipe.base_model is None:
        notes.append(f"the recipe has no base: models are compared with {base.name}, the first")
    elif base.role == "model":
        notes.append(f"{base.name} is the base and takes part itself; its change is zero")
    if plan.stages:
        stages = ", ".join(s.name for s in plan.stages)
        notes.append(f"results of stages are not inspected, what they are made of is: {stages}")
    if plan.recipe.modules:
        notes.append("models are compared layer by layer as they are, not as slices place them")
    aligned = [s.name for s in there if s.alignment]
    if aligned:
        notes.append(f"vocabularies are aligned as the merge aligns them: {', '.join(aligned)}")
    return base, [s for s in there if s.name != base.name], tuple(notes)


def _comparisons(base: PlannedSource, models: Sequence[PlannedSource]) -> list[Comparison]:
    """Return every floating tensor of the base beside those of the same name and shape."""
    found = []
    for name, info in base.checkpoint.tensors.items():
        if not DTYPES[info.dtype].merges:
            continue
        held = []
        for i, model in enumerate(models):
            own = model.checkpoint.tensors.get(name)
            fits = own is not None and own.shape == info.shape and DTYPES[own.dtype].merges
            if own is not None and fits and not _is_left(model, base, own.name):
                held.append((i, Stored(model.source, own)))
        stored = tuple(s for _, s in held)
        found.append(Comparison(name, Stored(base.source, info), stored, tuple(i for i, _ in held)))
    return found


def _is_left(model: PlannedSource, base: PlannedSource, name: str) -> bool:
    """Whether an adapter on the very base leaves a tensor as it is there, so none need read it."""
    on = adapted(model.source)
    if on is None or on.model is not base.source or model.alignment:
        return False
    return name not in on.targets.changed and name not in on.targets.replaced


def _measured(
    compared: Sequence[Comparison],
    n_models: int,
    threads: int,
    foresight: Foresight,
    progress: Progress,
) -> dict[str, _Sums]:
    def work(tile: Tile, out: Bytes) -> None:
        measure(tile, out.view(np.float64).reshape(-1, tile.of.width))

    tiles = foresight.ahead((t for c in compared for t in tiles_of(c)), Tile.announce)
    found: dict[str, _Sums] = {}
    held = []
    # Closed before the sources are: no worker may read what is no longer open.
    with closing(stream(tiles, work, threads, foresight.give_up)) as results:
        for tile, out in results:
            held.append(out.view(np.float64).reshape(-1, tile.of.width).copy())
            progress.advance(tile.read_nbytes)
            if tile.is_last:
                found[tile.of.name] = _joined(tile.of, np.concatenate(held), n_models)
                held.clear()
    empty = np.empty((0, 0))
    for c in compared:
        if c.name not in found:
            found[c.name] = _joined(c, empty.reshape(0, c.width), n_models)
    return found


def _joined(one: Comparison, rows: Floats, n_models: int) -> _Sums:
    """Return the sums of a tensor's blocks (blocks, width), exactly rounded."""
    sums = [math.fsum(column) for column in rows.T.tolist()]
    k = len(one.models)
    changed, gram = [0] * n_models, np.zeros((n_models, n_models))
    at = 1 + k
    for a, i in enumerate(one.places):
        changed[i] = int(sums[1 + a])
        for j in one.places[: a + 1]:
            gram[i, j] = gram[j, i] = sums[at]
            at += 1
    return _Sums(one.base.info.n_elements, sums[0], tuple(changed), gram)


def _structure(base: Stored, model: Stored, name: str) -> MapStructure:
    """Read one linear map of base and model whole, and look at its directions."""
    import torch

    held = []
    narrow, wide = torch.float32, torch.float64  # all others fit in float32 exactly
    for s in (base, model):
        loan = s.source.lend(s.info, 0, s.info.nbytes)
        try:
            array = numbers(loan.view(), s.info.dtype).reshape(s.info.shape)
            held.append(torch.tensor(array, dtype=wide if s.info.dtype == "F64" else narrow))
            del array  # a view of what is given back
        finally:
            loan.release()
    with one_thread():
        return structure_of(name, held[0], held[1], model.info.dtype)


def _model(
    base: PlannedSource,
    model: PlannedSource,
    i: int,
    sums: dict[str, _Sums],
    maps: tuple[MapStructure, ...],
) -> InspectedModel:
    tensors = base.checkpoint.tensors
    own = model.checkpoint.tensors
    apart = tuple(n for n in dict.fromkeys((*tensors, *own)) if n not in sums)
    norm = math.sqrt(max(0.0, math.fsum(float(s.gram[i, i]) for s in sums.values())))
    whole = math.sqrt(math.fsum(s.base for s in sums.values()))
    n_elements = sum(s.n_elements for s in sums.values())
    changed = {n for n, s in sums.items() if s.changed[i]}
    on = adapted(model.source)
    kind, rank, unchanged = kind_of(changed, tensors, maps, None if on is None else on.config.rank)
    return InspectedModel(
        name=model.name,
        norm=norm,
        share=norm / whole if whole else 0.0,
        changed=sum(s.changed[i] for s in sums.values()) / n_elements if n_elements else 0.0,
        kind=kind,
        rank=rank,
        unchanged=unchanged,
        not_compared=apart,
        maps=maps,
    )


def _pairs(names: Sequence[str], sums: dict[str, _Sums]) -> tuple[PairCosine, ...]:
    layers: dict[object, list[_Sums]] = defaultdict(list)
    for name, s in sums.items():
        layers[layer_position(name)].append(s)
    found = []
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            each = [c for part in layers.values() if (c := _cosine(part, i, j)) is not None]
            whole = _cosine(list(sums.values()), i, j)
            low, high = (min(each), max(each)) if each else (None, None)
            found.append(PairCosine(one, names[j], whole, low, high))
    return tuple(found)


def _cosine(sums: Sequence[_Sums], i: int, j: int) -> float | None:
    def total(a: int, b: int) -> float:
        return math.fsum(float(s.gram[a, b]) for s in sums)

    size = math.sqrt(total(i, i)) * math.sqrt(total(j, j))
    return max(-1.0, min(1.0, total(i, j) / size)) if size else None
