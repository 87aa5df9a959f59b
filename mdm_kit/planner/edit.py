"""How a plan comes from a finished merge, and what every edit of one asks first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from mdm_kit.errors import UsageError
from mdm_kit.ledger.entries import Mode, SourceEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.methods.contract import Method
from mdm_kit.methods.registry import methods
from mdm_kit.planner.costs import Budget
from mdm_kit.recipe import Recipe, did_you_mean
from mdm_kit.sources import Source
from mdm_kit.words import shown


@dataclass(frozen=True, slots=True)
class Edit:
    """How a plan came from an earlier merge.

    `inherited` are the earlier merge's entries of models the plan takes over, by reference. A patch
    has the `mode` exact or subtract; then `sources`, `products` and `weights` are what its manifest
    says, `leak` and `residue` (by model) what is left of the removed ones, and `homes` where models
    of this machine lie that are not read, by digest, and `opened` the models to keep. A merge that
    goes on from earlier sums has the entries of the models in them in `held`.
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
    held: tuple[SourceEntry, ...] = ()

    @property
    def is_patch(self) -> bool:
        """Whether the weights are a patch of earlier ones, and no merge of the models that stay."""
        return bool(self.sources)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a plan is to be laid out: see `make_plan`."""

    shard_nbytes: int
    budget: Budget


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


def check_tokenizer(recipe: Recipe, drop: Collection[str]) -> None:
    """Refuse to take out a model that the recipe's tokenizer block needs."""
    if recipe.tokenizer is None:
        return
    staying = {m.ref for m in recipe.models if m.name not in drop}
    if recipe.base_model is not None:
        staying.add(recipe.base_model.ref)
    gone = {m.ref: m.name for m in recipe.models if m.name in drop and m.ref not in staying}
    for located in recipe.tokenizer.references:
        if located.ref in gone:
            raise UsageError(
                f"the recipe's tokenizer takes rows or tokens from {shown(gone[located.ref])!r}, "
                "so the rest cannot be merged as if it had never been there; "
                "write a recipe without it and merge that"
            )
