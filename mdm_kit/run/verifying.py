"""Everything that can be checked of a finished merge: bytes, history, ledger, weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from mdm_kit.bundle.verify import Verified, read_products, verify_files
from mdm_kit.errors import MdmError, SourceError
from mdm_kit.ledger.entries import GroupEntry, Mode
from mdm_kit.ledger.history import history_faults
from mdm_kit.ledger.laws import ledger_faults
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.ledger.removal import Guarantee
from mdm_kit.ledger.sums_laws import sums_faults
from mdm_kit.ledger.ways import merged_models, needs, way_out
from mdm_kit.planner.edit import method_of
from mdm_kit.planner.patches import removal, weighing_of
from mdm_kit.planner.raw_weights import Weighing
from mdm_kit.planner.remembered import recipe_of
from mdm_kit.planner.solving import Group
from mdm_kit.planner.summation import kept_faults, summation_of
from mdm_kit.sources import Site
from mdm_kit.sources.kept_sums import KeptSums
from mdm_kit.words import shown

SAME = 1e-9
"""Relative difference of numbers that are computed alike, on another machine perhaps."""


def verify_merge(site: Site, advance: Callable[[int], None] = lambda _: None) -> Verified:
    """Check a finished merge: every digest, the history, the ledger's laws, every weight.

    Faults are collected; raises like `bundle.verify.verify_files`. The result says how each model
    can be taken out.
    """
    found = verify_files(site, advance)
    manifest = found.manifest
    faults = [*found.faults, *history_faults(manifest)]
    try:
        products = read_products(site, manifest)
        faults += ledger_faults(manifest, products)
        faults += _order_faults(manifest)
        told = sums_faults(manifest, summation_of(manifest))
        faults += told or _kept_faults(site, manifest)
        plain = not manifest.patched and not recipe_of(manifest).renumbers
        weighing = weighing_of(manifest, products) if plain else None
        if weighing is not None and (products.plain or method_of(manifest).solve is None):
            faults += _weight_faults(manifest, weighing)
    except SourceError:  # the Hub cannot be asked, which is no fault of the merge
        raise
    except (MdmError, KeyError) as error:
        return replace(found, faults=(*faults, str(error)))
    guarantees = () if faults else _guarantees(manifest, products, weighing)
    return replace(found, faults=tuple(dict.fromkeys(faults)), guarantees=guarantees)


def _kept_faults(site: Site, manifest: Manifest) -> list[str]:
    """Return where files of sums in a folder do not hold the sums that they keep."""
    files = manifest.sums.files if manifest.sums else []
    if site.folder is None or not all(site.find(name) for name in files):
        return []  # what is missing is a fault already
    with KeptSums("sums", {name: site.path(name) for name in files}) as kept:
        return kept_faults(manifest, kept.headers().tensors)


def _order_faults(manifest: Manifest) -> list[str]:
    recipe = recipe_of(manifest)
    base = None if recipe.base_model is None else str(recipe.base_model.ref)
    merged = [s for s in manifest.sources if s.status == "merged" and s.reference != base]
    own = [m for m in recipe.models if str(m.ref) not in recipe.earlier]
    wanted = [m.name for m in own if str(m.ref) != base]
    if recipe.stages:  # their models stand before
        merged = [s for s in merged if s.name in wanted]
    listed = [s.name for s in merged]
    if listed == wanted:
        return []
    return [
        f"sources: the models stand as {', '.join(map(shown, listed))}, in the recipe as "
        f"{', '.join(map(shown, wanted))}"
    ]


def _weight_faults(manifest: Manifest, weighing: Weighing) -> list[str]:
    """Compare the manifest's groups and weights with what recipe and ledger give."""
    groups, weights = weighing.groups, weighing.weights()
    if set(groups) != set(manifest.groups):
        return ["groups: are not those of the recipe's scope"]
    faults = [
        f"groups: {shown(name)}: its {what} does not follow from the ledger"
        for name, group in groups.items()
        if (what := _differs(group, manifest.groups[name], weighing.models))
    ]
    for name, entry in manifest.tensors.items():
        if entry.weights is not None and not _close(entry.weights, weights.get(name, ())):
            faults.append(
                f"tensors: {shown(name)}: its weights do not follow from recipe and ledger"
            )
    return faults


def _differs(group: Group, entry: GroupEntry, models: Sequence[str]) -> str | None:
    if not _close(entry.q, group.basis.q):
        return "q"
    if sorted(entry.tensors) != sorted(group.tensors):
        return "list of tensors"
    if entry.dependent != [models[i] for i in group.basis.dependent]:
        return "list of dependent models"
    numbers = (entry.largest_cosine, entry.condition)
    return None if _close(numbers, (group.largest_cosine, group.condition)) else "largest cosine"


def _close(found: Sequence[float], wanted: Sequence[float]) -> bool:
    scale = max(map(abs, wanted), default=0.0)
    return len(found) == len(wanted) and all(
        math.isclose(f, w, rel_tol=SAME, abs_tol=SAME * scale)
        for f, w in zip(found, wanted, strict=True)
    )


def _guarantees(
    manifest: Manifest, products: Products, weighing: Weighing | None
) -> tuple[Guarantee, ...]:
    names = merged_models(manifest)
    modes = tuple(manifest.undo) if len(names) > 1 else ()
    return tuple(_guarantee(manifest, products, weighing, name, modes) for name in names)


def _guarantee(
    manifest: Manifest,
    products: Products,
    weighing: Weighing | None,
    name: str,
    modes: tuple[Mode, ...],
) -> Guarantee:
    """Say how a model can be taken out, which models that reads, and what it leaves."""
    found = {}
    leak = residue = None
    for mode in modes:
        way = way_out(manifest, mode, [name])
        weighed: list[str] = []
        if way in ("patch", "subtract") and weighing is not None:
            exact = way == "patch"
            taken = removal(manifest, products, weighing, (name,), exact=exact)
            weighed = taken.needed(exact=exact)
            if not exact:
                leak, residue = taken.leak(products), taken.residue(name)
        found[mode] = needs(manifest, way, [name], weighed)
    return Guarantee(name, modes, found, leak, residue)
