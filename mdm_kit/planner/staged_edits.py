"""A recipe of several documents without some of its models, whatever documents they are in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mdm_kit.errors import UsageError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.recipe import ModelEntry, Recipe, did_you_mean
from mdm_kit.words import shown


def without_models(recipe: Recipe, manifest: Manifest, drop: Collection[str]) -> Recipe:
    """Return the recipe of a merge without the models called `drop` in its manifest.

    Raises `UsageError` for a name the merge does not have, for the base of a document, and where a
    document would have no model left.
    """
    names = [s.name for s in manifest.sources]
    for name in drop:
        if name not in names:
            raise UsageError(
                f"this merge has no model {shown(name)!r}{did_you_mean(name, names)}; "
                f"its models: {', '.join(map(shown, names))}"
            )
    gone = {s.reference: s.name for s in manifest.sources if s.name in drop}
    for s in manifest.sources:
        if s.reference in gone and s.name not in drop:
            raise UsageError(
                f"{shown(gone[s.reference])!r} and {shown(s.name)!r} are one model, which is taken "
                "out of all documents or of none; drop both"
            )
    stages = tuple(_without(stage, gone) for stage in recipe.stages)
    return replace(_without(recipe, gone), stages=stages)


def _without(document: Recipe, gone: dict[str, str]) -> Recipe:
    slices = [s for module in document.modules for s in module.slices]
    bases = [document.base_model, *(s.base_model for s in slices)]
    what = f"the stage {shown(document.name or '')!r}" if document.name else "the last document"
    for base in bases:
        if base is not None and str(base.ref) in gone:
            name = shown(gone[str(base.ref)])
            raise UsageError(f"{name!r} is the base of {what}; its other models build on it")
    left = _left(document.models, gone)
    if not left:
        raise UsageError(f"{what} would be left without models; take it out of the recipe")
    modules = tuple(
        replace(
            module,
            slices=tuple(
                replace(s, models=kept) for s in module.slices if (kept := _left(s.models, gone))
            ),
        )
        for module in document.modules
    )
    mixture = document.mixture
    if mixture is not None:
        experts, shared = (
            tuple(e for e in some if str(e.entry.ref) not in gone)
            for some in (mixture.experts, mixture.shared)
        )
        if not experts:
            raise UsageError(f"{what} would be left without experts; take it out of the recipe")
        mixture = replace(mixture, experts=experts, shared=shared)
    return replace(document, models=left, modules=modules, mixture=mixture)


def _left(models: tuple[ModelEntry, ...], gone: Collection[str]) -> tuple[ModelEntry, ...]:
    return tuple(m for m in models if str(m.ref) not in gone)
