"""The recipe of a finished merge, as its manifest remembers it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.entries import SourceEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.recipe import ModelEntry, Recipe, read_recipe_text
from mdm_kit.words import shown


def recipe_of(manifest: Manifest) -> Recipe:
    """Return the recipe a merge was made by, its models under the names they had.

    Default names depend on what else a recipe lists, so they are taken from the manifest. Raises
    `IntegrityError` where the recipe cannot be read or names other models than the manifest.
    """
    parsed = read_recipe_text(manifest.recipe)
    if parsed.recipe is None or not parsed.ok:
        raise IntegrityError(f"the recipe in {MANIFEST_NAME} cannot be read:\n{parsed.render()}")
    recipe = named_as(parsed.recipe, manifest)
    names = {m.name for m in recipe.models}
    base = None if recipe.base_model is None else str(recipe.base_model.ref)
    for source in manifest.sources:
        if source.status == "merged" and source.name not in names and source.reference != base:
            raise IntegrityError(
                f"{MANIFEST_NAME}: its recipe lacks the model {shown(source.name)} of its sources"
            )
    for model in recipe.models:
        if str(model.ref) not in {s.reference for s in manifest.sources}:
            raise IntegrityError(
                f"{MANIFEST_NAME}: its recipe names {shown(str(model.ref))}, "
                "which is none of its sources"
            )
    return recipe


def named_as(recipe: Recipe, manifest: Manifest, without: Collection[str] = ()) -> Recipe:
    """Return `recipe`, the models it shares with a merge under the names they have there.

    It has none of those called `without`.
    """
    left = [s for s in manifest.sources if s.status == "merged" and s.name not in without]
    return replace(recipe, models=tuple(_named(entry, left) for entry in recipe.models))


def _named(entry: ModelEntry, left: list[SourceEntry]) -> ModelEntry:
    """Return the entry under the name of the first source left with its reference, and take it.

    Of copies of one model, the one whose name the recipe gives.
    """
    fitting = [s for s in left if s.reference == str(entry.ref)]
    if not fitting:
        return entry
    given = [s for s in fitting if entry.named and s.name == entry.name]
    source = (given or fitting)[0]
    left.remove(source)
    return replace(entry, name=source.name)
