"""What can be said of a recipe before a model is opened: method, number of models, ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mdm_kit.errors import RecipeError
from mdm_kit.methods.contract import Method
from mdm_kit.methods.registry import methods
from mdm_kit.planner.mixing import mixture_findings
from mdm_kit.planner.parameters import Parameters
from mdm_kit.planner.sections import section_recipes
from mdm_kit.planner.sums import KEPT_SUMS
from mdm_kit.planner.writes import taking_part
from mdm_kit.recipe import ModelEntry, Recipe, did_you_mean, rewrite_references
from mdm_kit.words import Finding, Kind, Level, Place, shown


def recipe_findings(recipe: Recipe) -> tuple[Finding, ...]:
    """Return what is wrong with a recipe beyond its syntax; no model is opened."""
    found = [f for part in (*recipe.stages, recipe) for f in method_of_recipe(part)[1]]
    try:
        # What a merge publishes is this text with other references in it.
        rewrite_references(recipe, lambda _: "local:model@sha256:" + 64 * "0")
    except RecipeError as error:
        found.append(_wrong(str(error), recipe.merge_method.place))
    return tuple(found)


def method_of_recipe(recipe: Recipe) -> tuple[Method | None, list[Finding]]:
    """Return the method a recipe names, or None, and what is wrong with its use."""
    name = recipe.merge_method.text
    method = methods().get(name)
    if method is None:
        message = f"there is no merge method {shown(name, 60)!r}{did_you_mean(name, methods())}"
        hint = "mdm-kit methods lists what there is"
        place = recipe.merge_method.place
        return None, [Finding(Level.ERROR, Kind.RECIPE, message, hint, place)]
    if recipe.mixture is not None:
        return method, mixture_findings(recipe, recipe.mixture)
    found = _ledger_findings(recipe, method)
    recipes = section_recipes(recipe, method)
    for part in recipes:
        models = taking_part(part, method)
        found += _count_findings(part, method, models)
        found += Parameters(method, part, models).findings
    together = method.solve is not None or method.keeps_sums
    if together and len({tuple(m.name for m in taking_part(p, method)) for p in recipes}) > 1:
        found.append(
            _wrong(
                f"{method.name} measures its models against one another, and the slices of this "
                "recipe do not all have the same models",
                recipe.merge_method.place,
                "list the same models in the same order in every slice",
            )
        )
    return method, list(dict.fromkeys(found))


def _ledger_findings(recipe: Recipe, method: Method) -> list[Finding]:
    place = recipe.place_of("ledger") or recipe.merge_method.place
    hint = "leave it out: the ledger then keeps references"
    deltas = method.takes_deltas(with_base=recipe.base_model is not None)
    kept = f"ledger: {{keep: {recipe.ledger}}} keeps "
    if recipe.stages and recipe.ledger not in ("references", "none"):
        what = "what models can join and leave a merge by, and none does where stages are between"
        return [_wrong(kept + what, place, hint)]
    if recipe.ledger.startswith("deltas") and not deltas:
        what = f"what models changed against a base, and {method.name} has none"
        return [_wrong(kept + what, place, hint)]
    if recipe.ledger.startswith("deltas") and (odd := _on_another_model(recipe)):
        what = f"an adapter by what it is put on, and {odd.name} is not put on the base_model"
        return [_wrong(kept + what, odd.place, "write BASE+ADAPTER with the base_model in front")]
    if recipe.ledger == KEPT_SUMS and not method.keeps_sums:
        return [_wrong(f"{kept}sums over models, and {method.name} has none", place, hint)]
    if recipe.ledger == KEPT_SUMS and recipe.is_sliced:
        what = "sums that models can join and leave, and no model joins or leaves slices by them"
        return [_wrong(kept + what, place, hint)]
    return []


def _on_another_model(recipe: Recipe) -> ModelEntry | None:
    """Return a model whose adapter is put on something else than the base."""
    base = recipe.base_model.ref if recipe.base_model else None
    on = ((m, replace(m.ref, adapter=None)) for m in recipe.models if m.ref.adapter)
    return next((m for m, model in on if model != base), None)


def _count_findings(recipe: Recipe, method: Method, models: Sequence[ModelEntry]) -> list[Finding]:
    place = recipe.models[0].place if recipe.is_sliced else recipe.merge_method.place
    found = []
    if method.needs_base and recipe.base_model is None:
        which = "the model all of them were made from"
        if method.base == "first":
            which = "one of its two models"
        found.append(
            _wrong(f"{method.name} needs a base_model: {which}", recipe.merge_method.place)
        )
    deltas = method.takes_deltas(with_base=recipe.base_model is not None)
    low, high = method.min_models, method.max_models
    if len(models) < low or (high is not None and len(models) > high):
        wanted = (
            f"{low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        )
        beside = " beside the base" if method.needs_base or deltas else ""
        found.append(
            _wrong(f"{method.name} takes {wanted} model(s){beside}, found {len(models)}", place)
        )
    return found


def _wrong(message: str, place: Place, hint: str = "") -> Finding:
    return Finding(Level.ERROR, Kind.RECIPE, message, hint, place)
