"""The recipe of a finished merge, as its manifest remembers it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.recipe import Expert, LocatedRef, ModelEntry, Recipe, Slice, read_recipe_text
from mdm_kit.words import ModelRef, shown


def recipe_of(manifest: Manifest) -> Recipe:
    """Return the recipe a merge was made by, its models under the names they had.

    Default names depend on what else a recipe lists, so they are taken from the manifest. Raises
    `IntegrityError` where the recipe cannot be read or names other models than the manifest.
    """
    parsed = read_recipe_text(manifest.recipe)
    if parsed.recipe is None or not parsed.ok:
        raise IntegrityError(f"the recipe in {MANIFEST_NAME} cannot be read:\n{parsed.render()}")
    if parsed.recipe.merge_method.text != manifest.method:
        raise IntegrityError(
            f"{MANIFEST_NAME}: it says the method was {shown(manifest.method)}, and its recipe "
            f"names {shown(parsed.recipe.merge_method.text)}; get the original merge again"
        )
    recipe = named_as(parsed.recipe, manifest)
    if [s.name for s in recipe.stages] != [s.name for s in manifest.stages or ()]:
        raise IntegrityError(f"{MANIFEST_NAME}: its stages are not those of its recipe")
    names = {m.name for m in recipe.models}
    base = None if recipe.base_model is None else str(recipe.base_model.ref)
    in_stages = {str(r.ref) for s in recipe.stages for r in s.references}
    for source in manifest.sources:
        known = source.reference == base or source.reference in in_stages
        if source.status == "merged" and source.name not in names and not known:
            raise IntegrityError(
                f"{MANIFEST_NAME}: its recipe lacks the model {shown(source.name)} of its sources"
            )
    known_references = {s.reference for s in manifest.sources}
    for reference in [str(r.ref) for r in _models_of(recipe)]:
        if reference not in known_references:
            raise IntegrityError(
                f"{MANIFEST_NAME}: its recipe names {shown(reference)}, "
                "which is none of its sources"
            )
    return recipe


def named_as(recipe: Recipe, manifest: Manifest, without: Collection[str] = ()) -> Recipe:
    """Return `recipe`, the models it shares with a merge under the names they have there.

    It has none of those called `without`.
    """
    left = [
        (s.name, s.reference)
        for s in manifest.sources
        if s.status == "merged" and s.name not in without
    ]
    stages = {s.name: [(m.name, m.reference) for m in s.models] for s in manifest.stages or ()}
    named = tuple(_named_as(s, stages.get(s.name or "", [])) for s in recipe.stages)
    return replace(_named_as(recipe, left), stages=named)


def _models_of(recipe: Recipe) -> list[LocatedRef]:
    """Return the references of every document that are models to merge."""
    documents = (*recipe.stages, recipe)
    return [m.located for d in documents for m in d.models if str(m.ref) not in d.earlier]


def _named_as(recipe: Recipe, left: list[tuple[str, str]]) -> Recipe:
    """Return a document, its models under the names that are left of their references."""
    models = tuple(_named(entry, left) for entry in recipe.models)
    names = {entry.ref: entry.name for entry in models}
    modules = tuple(
        replace(m, slices=tuple(replace(s, models=_alike(s, names)) for s in m.slices))
        for m in recipe.modules
    )
    mixture = recipe.mixture and replace(
        recipe.mixture,
        experts=tuple(_expert_alike(e, names) for e in recipe.mixture.experts),
        shared=tuple(_expert_alike(e, names) for e in recipe.mixture.shared),
    )
    return replace(recipe, models=models, modules=modules, mixture=mixture)


def _expert_alike(expert: Expert, names: Mapping[ModelRef, str]) -> Expert:
    return replace(expert, entry=replace(expert.entry, name=names[expert.entry.ref]))


def _alike(s: Slice, names: Mapping[ModelRef, str]) -> tuple[ModelEntry, ...]:
    return tuple(replace(entry, name=names[entry.ref]) for entry in s.models)


def _named(entry: ModelEntry, left: list[tuple[str, str]]) -> ModelEntry:
    """Return the entry under the first name left of its reference, and take it.

    Of copies of one model, the one whose name the recipe gives.
    """
    fitting = [s for s in left if s[1] == str(entry.ref)]
    if not fitting:
        return entry
    given = [s for s in fitting if entry.named and s[0] == entry.name]
    taken = (given or fitting)[0]
    left.remove(taken)
    return replace(entry, name=taken[0])
