"""A finished merge and an edit of it, as a plan: the second door into the planner.

A model is put in, or taken out by `rebuild`, by editing the recipe the manifest remembers and
planning that: the plan of a merge that never was anything else, but for the inner products it need
not measure. `patches` plans the other two ways to take a model out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mdm_kit.errors import SourceError, UsageError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.planner.compat import any_compat
from mdm_kit.planner.edit import Edit, Settings, check_names, check_tokenizer, method_of
from mdm_kit.planner.going_on import can_join, can_step_back, plan_joining, plan_stepping_back
from mdm_kit.planner.parents import Parents
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.planning import make_plan
from mdm_kit.planner.remembered import named_as, recipe_of
from mdm_kit.planner.staged_edits import without_models
from mdm_kit.recipe import Addition, Recipe, did_you_mean, edited_text, read_recipe_text
from mdm_kit.sources import Source
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.sources.kept import KeptSource

COEFFICIENT = "weight"
"""The parameter that says how much of a model is in a merge, in every method that can be undone."""


def plan_add(
    parents: Parents, products: Products, additions: Sequence[Addition], settings: Settings
) -> Plan:
    """Plan the merge with more models behind the others; only their inner products are new.

    Where the merge is a sum over models, the others are not read again. Raises `UsageError` for a
    merge whose weights were patched, or a name that is taken, and what opening the models raises.
    The plan's findings say what is wrong with the new models.
    """
    manifest = parents.manifest
    if manifest.patched:
        removed = [s.name for s in manifest.sources if s.status == "removed"]
        gone = " ".join(f"--drop {shown(name)}" for name in removed)
        raise UsageError(
            f"this merge was patched by --mode {manifest.patched}, so its weights are not the sum "
            f"of its models; rebuild it first: mdm-kit unmerge SOURCE OUT {gone}"
        )
    recipe = recipe_of(manifest)
    if recipe.stages:
        raise UsageError(
            "this merge was made in stages, and which of them a new model joins is for its recipe "
            "to say; add the model there and merge anew"
        )
    if recipe.modules:
        raise UsageError(
            "this merge is put together of slices, and which of them a new model joins, with which "
            "of its layers, is for its recipe to say; add the model there and merge anew"
        )
    if recipe.mixture is not None:
        raise UsageError(
            "an expert joins a mixture with its prompts, which are for the recipe to say; add the "
            "model there and merge anew"
        )
    edited = _read(edited_text(recipe, add=additions), manifest)
    names = [m.name for m in edited.models]
    twice = [n for n, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(
            f"the merge has a model {shown(twice[0])!r} already; give the new one a --name"
        )
    added = tuple(names[len(recipe.models) :])
    if not recipe.is_sliced and can_join(manifest, method_of(manifest)):
        joined = plan_joining(parents, edited, added, settings)
        if joined is not None:
            return joined
    return _replanned(parents, products, edited, settings, added=added, removed=())


def plan_rebuild(
    parents: Parents,
    products: Products,
    drop: Collection[str],
    settings: Settings,
    *,
    reset: bool = False,
) -> Plan:
    """Plan the merge of the models that are left, as if there had never been others.

    `reset` gives every model the method's default coefficient. Raises `UsageError` for names the
    merge does not have and where nothing would be left.
    """
    recipe = recipe_of(parents.manifest)
    method = method_of(parents.manifest)
    if recipe.stages:
        if reset:
            raise UsageError(
                "this merge was made in stages, and which of their weights are to be reset is for "
                "its recipe to say; write it there and merge anew"
            )
        text = edited_text(without_models(recipe, parents.manifest, drop))
        edited = _read(text, parents.manifest, drop)
        return _replanned(parents, products, edited, settings, added=(), removed=tuple(drop))
    if drop:
        check_names(parents.manifest, recipe, drop)
    if drop and "rebuild" not in method.undo:
        why = "takes one model, and without it nothing is left"
        if recipe.modules:
            why = "needs all models of a slice; write a recipe without the model and merge that"
        raise UsageError(f"{method.name} {why}")
    if reset and any(s.required for s in method.params.specs() if s.name == COEFFICIENT):
        raise UsageError(
            f"{method.name} has no default {COEFFICIENT} to reset to; "
            "write a recipe without the model and merge that"
        )
    check_tokenizer(recipe, drop)
    _check_slices(recipe, drop)
    text = edited_text(recipe, drop=drop, reset=(COEFFICIENT,) if reset else ())
    edited = _read(text, parents.manifest, drop)
    if not reset and can_step_back(parents.manifest, method, tuple(drop)):
        stepped = plan_stepping_back(parents, edited, tuple(drop), settings)
        if stepped is not None:
            return stepped
    return _replanned(parents, products, edited, settings, added=(), removed=tuple(drop))


def _check_slices(recipe: Recipe, drop: Collection[str]) -> None:
    """Refuse to take out what a slice that stays has for its base."""
    refs = {m.ref: m.name for m in recipe.models if m.name in drop}
    for s in (s for module in recipe.modules for s in module.slices):
        stays = any(m.name not in drop for m in s.models)
        if stays and s.base_model is not None and s.base_model.ref in refs:
            raise UsageError(
                f"{shown(refs[s.base_model.ref])!r} is the base of a slice; its other models build "
                "on it"
            )


def kept_model(parents: Parents, name: str) -> KeptSource:
    """Return a model out of a bundle; raises `UsageError` for a name it does not have."""
    names = [s.name for s in parents.manifest.sources]
    if name not in names:
        raise UsageError(
            f"this merge has no model {shown(name)!r}{did_you_mean(name, names)}; "
            f"its models: {', '.join(map(shown, names))}"
        )
    entry = parents.entry(name)
    if entry.kept is None:
        kept = [s.name for s in parents.manifest.sources if s.kept]
        raise SourceError(
            f"this merge keeps only a reference to {shown(name)}: {shown(entry.reference)}; "
            + (
                f"it keeps {', '.join(map(shown, kept))}"
                if kept
                else "write ledger: {keep: deltas} in a recipe to keep its models"
            )
        )
    return parents.kept(entry)


def _read(text: str, manifest: Manifest, drop: Collection[str] = ()) -> Recipe:
    """Return the recipe of an edited text, inherited models under the names they had."""
    return named_as(read_recipe_text(text).require(), manifest, drop)


def _computes(manifest: Manifest) -> list[str]:
    return [*manifest.precision.compute, *(c for s in manifest.stages or () for c in s.compute)]


def _replanned(
    parents: Parents,
    products: Products,
    recipe: Recipe,
    settings: Settings,
    *,
    added: tuple[str, ...],
    removed: tuple[str, ...],
) -> Plan:
    wanted = {str(located.ref) for located in recipe.references}
    base = None if recipe.base_model is None else str(recipe.base_model.ref)
    # A base that was merged as well stays the base, whatever of it is taken out.
    entries = [
        s
        for s in parents.manifest.sources
        if s.reference in wanted and (s.name not in removed or s.reference == base)
    ]
    opened = parents.open([s.name for s in entries])
    given: dict[str, Source] = {s.reference: opened[s.name] for s in entries}
    models = [m.name for m in recipe.models]
    if recipe.base_model is not None:
        models = [m.name for m in recipe.models if m.ref != recipe.base_model.ref]
    plan = make_plan(
        recipe,
        shard_nbytes=settings.shard_nbytes,
        threads=settings.budget.threads,
        memory_nbytes=settings.budget.memory_nbytes,
        given=given,
        # A stage that lost a model is another model, whatever its name is.
        known=Products() if recipe.stages else products.leading(models),
        compat=any_compat(_computes(parents.manifest)),
        earlier={s.reference: s for s in entries},
    )
    edit = Edit(
        parents.manifest,
        added=added,
        removed=removed,
        inherited={s.reference: s for s in entries},
    )
    return replace(plan, edit=edit)
