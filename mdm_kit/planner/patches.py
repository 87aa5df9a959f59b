"""Taking a model out without folding the rest as if it had never been there.

`subtract` is the paper's: the removed model's orthogonal component goes, what its raw change left
in later components stays. Base and deltas are folded again, so one rounding is all it costs.
`exact` changes the weights as they are stored by (w' - w) d: one more rounding, but only deltas
whose weight changes are needed; where a merge is an exact sum over models, the sum.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mdm_kit.errors import UsageError
from mdm_kit.ledger.entries import PASSED
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.ledger.removal import leak, residue
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.methods.contract import Method, NoParams
from mdm_kit.planner.common_names import headed, under_common_names
from mdm_kit.planner.compat import any_compat
from mdm_kit.planner.costs import costs
from mdm_kit.planner.edit import Edit, Settings, check_names, method_of
from mdm_kit.planner.going_on import can_leave, plan_leaving
from mdm_kit.planner.layout import lay_out
from mdm_kit.planner.licences import Terms, parents_of, terms_of
from mdm_kit.planner.nodes import Apply, Delta, Fold, Read, Same, Write
from mdm_kit.planner.parents import Parents
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.planning import planned
from mdm_kit.planner.raw_weights import Weighing
from mdm_kit.planner.remembered import named_as, recipe_of
from mdm_kit.planner.solving import too_coarse
from mdm_kit.planner.survey import Survey, Surveyed, surveyed
from mdm_kit.planner.writes import taking_part
from mdm_kit.recipe import Recipe, edited_text, read_recipe_text
from mdm_kit.sources import Origin
from mdm_kit.words import DTYPES, TensorInfo

_MERGED = "merged"
"""The name of the stored merge among the sources of an exact patch."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Weights by tensor, one for each model of the merge that is patched, in its order.

    `had` is what they were, `left` what they will be and `clean` what they are in a merge that
    never held the removed models.
    """

    models: tuple[str, ...]
    had: Mapping[str, tuple[float, ...]]
    left: Mapping[str, tuple[float, ...]]
    clean: Mapping[str, tuple[float, ...]]

    def leak(self, products: Products) -> float:
        """Return how far the weights left are from the clean ones."""
        if self.left == self.clean:
            return 0.0
        return leak({**products.plain, **products.exact}, self.left, self.clean)

    def needed(self, *, exact: bool) -> list[str]:
        """Return the models whose deltas are read, to patch by `exact`, else to subtract."""
        if not exact:
            return [m for i, m in enumerate(self.models) if any(w[i] for w in self.left.values())]
        turned = _turned(self).values()
        return [m for i, m in enumerate(self.models) if any(w[i] for w in turned)]

    def residue(self, name: str) -> float:
        """Return the largest coefficient that a model's raw change still has in any tensor."""
        return residue(self.left, self.models.index(name))


def weighing_of(manifest: Manifest, products: Products, without: Collection[str] = ()) -> Weighing:
    """Return the weights of a merge, or of the merge that never held the models `without`."""
    recipe = recipe_of(manifest)
    if without:
        recipe = _without(recipe, manifest, without)
    method, shared = method_of(manifest), manifest.shared
    tensors = {n: n in shared and DTYPES[t.dtype].merges for n, t in manifest.tensors.items()}
    names = [m.name for m in taking_part(recipe, method)]
    return Weighing(recipe, method, products.of(names) if products.plain else products, tensors)


def removal(
    manifest: Manifest,
    products: Products,
    weighing: Weighing,
    drop: Collection[str],
    *,
    exact: bool,
) -> Removal:
    """Return the weights before and after models are taken out by `exact`, else by `subtract`.

    `weighing` is that of the whole merge.
    """
    rest = weighing_of(manifest, products, without=drop)
    at = [rest.models.index(name) if name in rest.models else -1 for name in weighing.models]
    clean = {name: tuple(w[i] if i >= 0 else 0.0 for i in at) for name, w in rest.weights().items()}
    left = clean if exact else weighing.weights(silent=drop)
    return Removal(weighing.models, weighing.weights(), left, clean)


def _without(recipe: Recipe, manifest: Manifest, drop: Collection[str]) -> Recipe:
    return named_as(read_recipe_text(edited_text(recipe, drop=drop)).require(), manifest, drop)


def plan_patch(
    parents: Parents,
    products: Products,
    drop: Collection[str],
    settings: Settings,
    *,
    exact: bool,
) -> Plan:
    """Plan to take models out by `exact`, else by `subtract`.

    Raises `UsageError` where the method or the merge cannot have it, and what opening the models
    that are needed raises.
    """
    manifest = parents.manifest
    mode = "exact" if exact else "subtract"
    method, recipe = method_of(manifest), recipe_of(manifest)
    if mode not in manifest.undo or mode not in method.undo:
        raise UsageError(_refusal(manifest, method, mode))
    check_names(manifest, recipe, drop)
    if method.keeps_sums:
        if not can_leave(manifest, method):
            raise UsageError(_refusal(manifest, method, mode))
        return plan_leaving(parents, _without(recipe, manifest, drop), tuple(drop), settings)
    weighing = weighing_of(manifest, products)
    weights = removal(manifest, products, weighing, drop, exact=exact)
    lost = weights.leak(products)
    plan = _planned(parents, products, weights, method, settings, exact=exact)
    left = [m for m in weights.models if m not in drop]
    keeps = recipe.ledger.startswith("deltas")
    edit = Edit(
        manifest,
        removed=tuple(drop),
        mode=mode,
        leak=lost,
        residue={name: weights.residue(name) for name in drop},
        inherited={s.reference: s for s in manifest.sources},
        sources=tuple(
            replace(s, status="removed") if s.name in drop else s for s in manifest.sources
        ),
        products=products,
        weights=weights.left,
        homes=parents.homes(),
        opened=parents.open(left) if keeps else {},
    )
    left_recipe = _without(recipe, manifest, drop)
    terms = _terms(edit, plan, left_recipe)
    return replace(plan, recipe=left_recipe, edit=edit, terms=terms, findings=terms.findings)


def _terms(edit: Edit, plan: Plan, recipe: Recipe) -> Terms:
    """Return the terms of the models that are left, and of those something is left of."""
    opened = {s.name: s.source for s in plan.sources if s.source.origin().repo}
    return terms_of(
        [
            parent
            for s in edit.sources
            if s.status == "merged" or edit.residue[s.name]
            for parent in parents_of(s.name, opened.get(s.name), s, Origin("hub", s.repo, s.commit))
        ],
        recipe,
    )


def plan_as_patched(parents: Parents, products: Products, settings: Settings) -> Plan:
    """Plan the weights of a merge that was patched by `subtract` as they are."""
    manifest = parents.manifest
    weights = {n: tuple(t.weights) for n, t in manifest.tensors.items() if t.weights is not None}
    models = tuple(s.name for s in manifest.sources if s.role == "model")
    same = Removal(models, weights, weights, weights)
    return _planned(parents, products, same, method_of(manifest), settings, exact=False)


def _refusal(manifest: Manifest, method: Method, mode: str) -> str:
    can = ", ".join(manifest.undo) or "nothing: write a recipe without the model and merge that"
    if manifest.patched:
        why = f"this merge was patched by {manifest.patched} already"
    elif any_compat(manifest.precision.compute):
        why = "it was made by --compat mergekit, where every step rounds and no part can be taken"
    elif recipe_of(manifest).tokenizer is not None and mode in method.undo:
        why = "rows of its vocabulary may have been aligned, which depends on all of its models"
    elif method.keeps_sums and mode in method.undo:
        why = "this merge keeps no sums that a model could be taken out of"
    elif mode in method.undo:
        why = "this merge keeps no inner products, which the weights without a model follow from"
    else:
        why = f"{method.name} is no sum of deltas that a model's part could be taken from"
    return f"--mode {mode} is not possible here: {why}. What is possible: {can}"


def _planned(
    parents: Parents,
    products: Products,
    weights: Removal,
    method: Method,
    settings: Settings,
    *,
    exact: bool,
) -> Plan:
    manifest = parents.manifest
    assert parents.base is not None  # noqa: S101 -- a method of deltas has one
    turned = weights.left if not exact else _turned(weights)
    opened = parents.open([parents.base.name, *weights.needed(exact=exact)])
    first, *rest = (surveyed(name, source) for name, source in opened.items())
    named, _ = under_common_names(Survey(tuple(rest), headed(first, manifest.tensors), ()))
    base, sources = named.donor, list(named.sources)
    models, donor = {s.name: s for s in named.models}, base
    if exact:
        donor = surveyed(_free(weights.models), parents.site.source(_MERGED), owned=True)
        sources.append(donor)
    merged = donor if exact else None
    maker = _Maker(manifest, products, weights.models, turned, base, models, merged)
    shards = lay_out(list(maker.writes(donor.checkpoint.tensors)), settings.shard_nbytes)
    recipe = recipe_of(manifest)
    return Plan(
        recipe=recipe,
        method=method.name,
        donor=donor.name,
        sources=tuple(
            replace(planned(s, recipe, method), ref=parents.reference(s.name)) for s in sources
        ),
        shards=shards,
        findings=(),
        costs=costs(sources, shards, settings.budget, 0),
        budget=settings.budget,
    )


def _turned(weights: Removal) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(n - o for n, o in zip(weights.left[name], had, strict=True))
        for name, had in weights.had.items()
    }


def _free(taken: Sequence[str]) -> str:
    name = _MERGED
    while name in taken:
        name += "_"
    return name


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the nodes of a patch: on the base with `weights`, or on `merged` where there is one."""

    manifest: Manifest
    products: Products
    order: tuple[str, ...]
    weights: Mapping[str, tuple[float, ...]]
    base: Surveyed
    models: Mapping[str, Surveyed]
    merged: Surveyed | None

    def writes(self, tensors: Mapping[str, TensorInfo]) -> Iterator[Write]:
        """Yield the output tensors in the order of `tensors`."""
        for name, info in tensors.items():
            entry = self.manifest.tensors[name]
            dtype, is_passed = DTYPES[entry.dtype], entry.rule == PASSED
            root: Apply | Fold | Same = Same((Read(info),))
            if dtype.merges and not is_passed:
                root = self._root(name)
            elif info.dtype != entry.dtype:
                root = self._node((Read(info),), (1.0,), "float64")
            nbytes = info.n_elements * dtype.bits // 8
            yield Write(name, info.shape, dtype.name, nbytes, root, passed=is_passed)

    def _root(self, name: str) -> Apply | Fold:
        base = Read(self.base.checkpoint.tensors[name])
        parts = [
            (Read(self.models[m].checkpoint.tensors[name]), w)
            for m, w in zip(self.order, self.weights[name], strict=True)
            if w
        ]
        if self.merged is not None:
            merged = Read(self.merged.checkpoint.tensors[name])
            return self._on_merged(merged, base, parts)
        if not parts:
            return self._node((base,), (1.0,), "float64")
        reads, weights = zip(*parts, strict=True)
        deltas = tuple(Delta(r, base) for r in reads)
        return Fold(base, self._node(deltas, weights, self._compute(name)))

    def _on_merged(self, merged: Read, base: Read, parts: Sequence[tuple[Read, float]]) -> Apply:
        """Return M + Σ w x - (Σ w) b, in float64: no delta is rounded before the sum is."""
        reads = (merged, *(r for r, _ in parts), *([base] if parts else []))
        rest = (-math.fsum(w for _, w in parts),) if parts else ()
        return self._node(reads, (1.0, *(w for _, w in parts), *rest), "float64")

    def _node(
        self, inputs: tuple[Read | Delta, ...], weights: Sequence[float], compute: str
    ) -> Apply:
        method = self.manifest.method
        return Apply(method, inputs, NoParams(), compute, weights=tuple(weights))

    def _compute(self, name: str) -> str:
        gram: Gram | None = self.products.exact.get(name, self.products.plain.get(name))
        coarse = too_coarse(self.weights[name], gram) or name in self.products.wide
        return "float64" if coarse else "float32"
