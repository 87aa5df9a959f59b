"""A finished merge and an edit of it, as a plan: the second door into the planner.

A model is put in, or taken out by `rebuild`, by editing the recipe the manifest remembers and
planning that: the plan of a merge that never was anything else, but for the inner products it need
not measure. `patches` plans the other two ways to take a model out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mdm_kit.errors import SourceError, UsageError
from mdm_kit.ledger.entries import Mode, SourceEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.methods.contract import Method
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import any_compat
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.parents import Parents
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.planning import make_plan
from mdm_kit.planner.remembered import named_as, recipe_of
from mdm_kit.recipe import Addition, Recipe, did_you_mean, edited_text, read_recipe_text
from mdm_kit.sources import Source
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.sources.kept import KeptSource

COEFFICIENT = "weight"
"""The parameter that says how much of a model is in a merge, in every method that can be undone."""


@dataclass(frozen=True, slots=True)
class Edit:
    """How a plan came from an earlier merge.

    `inherited` are the earlier merge's entries of models the plan takes over, by reference. A patch
    has the `mode` exact or subtract; then `sources`, `products` and `weights` are what its manifest
    says, `leak` and `residue` (by model) what is left of the removed ones, and `homes` where models
    of this machine lie that are not read, by digest, and `opened` the models to keep.
    """

    parent: Manifest
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    mode: Mode = "rebuild"
    leak: float | None = 0.0
    residue: Mapping[str, float] = field(default_factory=dict)
    inherited: Mapping[str, SourceEntry] = field(default_factory=dict)
    sources: tuple[SourceEntry, ...] = ()
    products: Products = field(default_factory=Products)
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    opened: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a plan is to be laid out: see `make_plan`."""

    shard_nbytes: int
    budget: Budget


def plan_add(
    parents: Parents, products: Products, additions: Sequence[Addition], settings: Settings
) -> Plan:
    """Plan the merge with more models behind the others; only their inner products are new.

    Raises `UsageError` for a merge whose weights were patched, or a name that is taken, and what
    opening the models raises. The plan's findings say what is wrong with the new models.
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
    edited = _read(edited_text(recipe, add=additions), manifest)
    names = [m.name for m in edited.models]
    twice = [n for n, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(
            f"the merge has a model {shown(twice[0])!r} already; give the new one a --name"
        )
    added = tuple(names[len(recipe.models) :])
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
    if drop:
        check_names(parents.manifest, recipe, drop)
    if drop and "rebuild" not in method.undo:
        raise UsageError(f"{method.name} takes one model, and without it nothing is left")
    if reset and any(s.required for s in method.params.specs() if s.name == COEFFICIENT):
        raise UsageError(
            f"{method.name} has no default {COEFFICIENT} to reset to; "
            "write a recipe without the model and merge that"
        )
    text = edited_text(recipe, drop=drop, reset=(COEFFICIENT,) if reset else ())
    edited = _read(text, parents.manifest, drop)
    return _replanned(parents, products, edited, settings, added=(), removed=tuple(drop))


def method_of(manifest: Manifest) -> Method:
    """Return the method of a merge; raises `UsageError` where this version does not have it."""
    method = methods().get(manifest.method)
    if method is None:
        raise UsageError(
            f"the merge was made by {shown(manifest.method)!r}, which this version does not have; "
            f"methods: {', '.join(methods())}"
        )
    return method


def check_names(manifest: Manifest, recipe: Recipe, drop: Collection[str]) -> None:
    """Refuse to take out what is no model of the merge, the base, or everything."""
    base = None if recipe.base_model is None else str(recipe.base_model.ref)
    entries = {s.name: s for s in manifest.sources if s.reference != base or s.role == "model"}
    known = ", ".join(map(shown, entries))
    counted = method_of(manifest).base == "counted"
    for name in drop:
        if counted and name in entries and entries[name].reference == base:
            raise UsageError(
                f"{shown(name)!r} is the recipe's base_model, which {manifest.method} counts as "
                "one of the models; write a recipe without it"
            )
        if name not in entries and any(s.name == name for s in manifest.sources):
            raise UsageError(f"{shown(name)!r} is the base of this merge; every model builds on it")
        if name not in entries:
            raise UsageError(
                f"this merge has no model {shown(name)!r}{did_you_mean(name, entries)}; "
                f"its models: {known}"
            )
    if not any(m.name not in drop and m.name in entries for m in recipe.models):
        raise UsageError("nothing would be left of this merge; use the base model itself")


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
        known=products.leading(models),
        compat=any_compat(parents.manifest.precision.compute),
    )
    edit = Edit(
        parents.manifest,
        added=added,
        removed=removed,
        inherited={s.reference: s for s in entries},
    )
    return replace(plan, edit=edit)
