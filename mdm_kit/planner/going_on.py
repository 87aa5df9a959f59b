"""Going on from what a finished merge has of its models: a sum that grows, or is taken back.

Base, merge and the models that join are all that is read. A merge that keeps its sums gives the
bytes of one that was made of all models at once; one that keeps none can be gone on from by a
projecting method, from its weights, with an error that rounding them has left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mdm_kit.errors import IntegrityError, MdmError, UsageError
from mdm_kit.ledger.entries import Mode, SummedTensor
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.sums import mean_norm_scale
from mdm_kit.ledger.ways import joining, way_out
from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.methods.registry import methods
from mdm_kit.methods.rules import Projecting
from mdm_kit.planner.common_names import agreed, headed, under_common_names
from mdm_kit.planner.edit import Edit, Settings, method_of
from mdm_kit.planner.licences import Parent, parents_of
from mdm_kit.planner.nodes import Read, Start
from mdm_kit.planner.parameters import Parameters
from mdm_kit.planner.parents import Parents
from mdm_kit.planner.patterns import depths
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.planning import make_plan
from mdm_kit.planner.remembered import recipe_of
from mdm_kit.planner.sections import Section
from mdm_kit.planner.summation import check_start, kept_faults, not_the_merge, stored_faults
from mdm_kit.planner.sums import BEFORE, CHANGES, COVARIANCES, PRODUCTS, SUM
from mdm_kit.planner.survey import Opening, Survey, Surveyed, survey, surveyed
from mdm_kit.planner.writes import Starting, Starts, taking_part
from mdm_kit.recipe import Recipe
from mdm_kit.sources import Origin
from mdm_kit.words import Finding, Kind, Level, shown

_SUMS = "sums"
"""The name of a merge's sums among the sources of a plan."""


def can_join(manifest: Manifest, method: Method) -> bool:
    """Whether a model can join a merge without the models it has."""
    if not method.keeps_sums or joining(manifest) == "anew":
        return False
    kept = manifest.sums is not None and bool(manifest.sums.files)
    # Rows may have been aligned with one another: without sums all models are read again.
    return kept or recipe_of(manifest).tokenizer is None


def can_step_back(manifest: Manifest, method: Method, drop: Sequence[str]) -> bool:
    """Whether the sum without the models `drop` is kept: that before the last model."""
    return method.keeps_sums and way_out(manifest, "rebuild", drop) == "back"


def can_leave(manifest: Manifest, method: Method) -> bool:
    """Whether any model can be taken out of a merge's sums."""
    kept = manifest.sums is not None and bool(manifest.sums.files)
    return manifest.is_whole and method.keeps_sums and kept and "exact" in method.undo


def plan_joining(
    parents: Parents, recipe: Recipe, added: Sequence[str], settings: Settings
) -> Plan | None:
    """Plan a merge with the models `added`, the last of `recipe`, in its sums.

    Returns None where a merge of all models has other tensors than this one has, or sums fewer.
    Raises `UsageError` for a merge that was multiplied by nothing, from which no sum can be read
    back, and what opening base, sums or models raises.
    """
    entries = [m for m in recipe.models if m.name in added]
    opened = survey(replace(recipe, models=tuple(entries), base_model=None), Opening())
    base = _base_of(parents)
    named, _ = under_common_names(replace(opened, base=base))
    (section,), _ = agreed([Section(recipe, named, {})], recipe.on_mismatch)
    lacking = section.survey.passed | section.survey.partial
    if lacking or named.donor.checkpoint.tensors.keys() != parents.manifest.tensors.keys():
        named.close()
        return None
    kept = bool(parents.manifest.sums and parents.manifest.sums.files)
    sums = _sums_of(parents, recipe, kept=kept)
    starts = _Starts(parents.manifest, sums, tuple(added), before=False, kept=kept)
    found = opened.findings if kept else (*opened.findings, _rounded(parents.manifest))
    return _planned(
        parents,
        recipe,
        Starting(
            Survey(opened.models, base, found), sums, starts.joining, _parents_of(parents, opened)
        ),
        settings,
        added=tuple(added),
    )


def plan_stepping_back(
    parents: Parents, recipe: Recipe, drop: Sequence[str], settings: Settings
) -> Plan | None:
    """Plan a merge as it was before its last model; `recipe` lacks that. No model is read.

    Returns None where the merge has a tensor that its base has not.
    """
    base = _base_of(parents)
    if base.source.headers().tensors.keys() != parents.manifest.tensors.keys():
        return None
    sums = _sums_of(parents, recipe, kept=True)
    starts = _Starts(parents.manifest, sums, (), before=True, kept=True)
    none = Survey((), base, ())
    starting = Starting(none, sums, starts.joining, _parents_of(parents, none, drop))
    return _planned(parents, recipe, starting, settings, removed=tuple(drop))


def plan_leaving(parents: Parents, recipe: Recipe, drop: Sequence[str], settings: Settings) -> Plan:
    """Plan a merge whose sums the models `drop` are taken out of; `recipe` lacks them."""
    opened = parents.open(drop)
    leaving = tuple(surveyed(name, source) for name, source in opened.items())
    base = _base_of(parents)
    sums = _sums_of(parents, recipe, kept=True)
    starts = _Starts(parents.manifest, sums, tuple(opened), before=False, kept=True)
    starting = Starting(
        Survey(leaving, base, ()),
        sums,
        starts.leaving(),
        _parents_of(parents, Survey((), base, ()), drop),
        leaves=True,
    )
    return _planned(parents, recipe, starting, settings, removed=tuple(opened), mode="exact")


def _planned(
    parents: Parents,
    recipe: Recipe,
    starting: Starting,
    settings: Settings,
    *,
    added: tuple[str, ...] = (),
    removed: tuple[str, ...] = (),
    mode: Mode = "rebuild",
) -> Plan:
    manifest = parents.manifest
    plan = make_plan(
        recipe,
        shard_nbytes=settings.shard_nbytes,
        threads=settings.budget.threads,
        memory_nbytes=settings.budget.memory_nbytes,
        starting=starting,
    )
    if not plan.sources:  # what is wrong with it stands in its findings
        starting.sums.source.close()
    keeps = manifest.sums is not None and bool(manifest.sums.files)
    try:
        check_start(plan, manifest, starting.sums.checkpoint.tensors if keeps else {})
    except IntegrityError:
        plan.close()
        raise
    edit = Edit(
        manifest,
        added=added,
        removed=removed,
        mode=mode,
        residue=dict.fromkeys(removed, 0.0) if mode == "exact" else {},
        inherited={s.reference: s for s in manifest.sources if s.name not in removed},
        homes=parents.homes(),
        held=tuple(s for s in manifest.sources if s.role == "model" and s.name not in removed),
    )
    return replace(plan, edit=edit)


@dataclass(frozen=True, slots=True)
class _Starts:
    """Says what each tensor of a merge goes on from."""

    manifest: Manifest
    sums: Surveyed
    moving: tuple[str, ...]
    before: bool
    kept: bool

    def joining(self, name: str, params: MethodParams) -> Start:
        """Return the sums that models join, or the sum before the last of them."""
        fact = self._fact(name)
        n = len(fact.energies) - self.before
        scale = None if self.kept else self._factor(fact, params)
        weights = getattr(params, "weight", ())
        return Start(
            self._reads(name),
            n,
            scale,
            weights=tuple(weights[len(weights) - len(self.moving) :]),
            energies=tuple(fact.energies[:n]),
            total=fact.totals[n - 1] if fact.totals and n else 0.0,
        )

    def leaving(self) -> Starts:
        """Return what gives the sums that models leave, by tensor."""
        recipe, method = recipe_of(self.manifest), method_of(self.manifest)
        entries = taking_part(recipe, method)
        names = [m.name for m in entries]
        parameters = Parameters(method, recipe, entries)
        places = depths(self.manifest.tensors)

        def start(name: str, _: MethodParams) -> Start:
            had = getattr(parameters.at(name, places[name]), "weight")  # noqa: B009
            weight = dict(zip(names, had, strict=True))
            energies = zip(names, self._fact(name).energies, strict=True)
            return Start(
                self._reads(name),
                len(names),
                takes_out=True,
                weights=tuple(weight[m] for m in self.moving),
                energies=tuple(e for m, e in energies if m not in self.moving),
            )

        return start

    def _fact(self, name: str) -> SummedTensor:
        sums = self.manifest.sums
        assert sums is not None  # noqa: S101 -- only merges that have sums are gone on from
        fact = sums.tensors.get(name)
        if fact is None:
            raise not_the_merge([f"sums: nothing is said of {shown(name)}, a tensor of the base"])
        return fact

    def _reads(self, name: str) -> tuple[Read, ...]:
        tensors = self.sums.checkpoint.tensors
        if not self.kept:
            return (Read(tensors[name]),)
        if self.before:
            return (Read(tensors[f"{BEFORE}:{name}"]),)
        roles = (SUM, CHANGES, PRODUCTS, COVARIANCES)
        return tuple(Read(tensors[e]) for role in roles if (e := f"{role}:{name}") in tensors)

    def _factor(self, fact: SummedTensor, params: MethodParams) -> float:
        """Return what a tensor's sum was multiplied by in the weights of the merge."""
        rule = methods()[self.manifest.method].matrix_rule
        assert rule is not None  # noqa: S101 -- it keeps sums
        said = rule(params, ())
        assert isinstance(said, Projecting)  # noqa: S101 -- covariances cannot be read off weights
        sums = self.manifest.sums
        scale = sums.scale if sums else None
        if scale is None:
            scale = mean_norm_scale(fact.energies, fact.totals[-1])
        factor = said.factor * scale
        if factor == 0.0 and fact.totals[-1] > 0.0:
            raise UsageError(
                "the merge multiplied what it has of its models by 0, so it cannot be read back "
                "from its weights; merge anew with all models"
            )
        return factor or 1.0


def _base_of(parents: Parents) -> Surveyed:
    assert parents.base is not None  # noqa: S101 -- sums are sums of changes
    name = parents.base.name
    return headed(surveyed(name, parents.open([name])[name]), parents.manifest.tensors)


def _sums_of(parents: Parents, recipe: Recipe, *, kept: bool) -> Surveyed:
    """Return the sums a merge keeps, else its weights, which they are read back from.

    Raises `IntegrityError` where these are not what the manifest says they are.
    """
    source = parents.sums(_SUMS) if kept else parents.site.source(_SUMS)
    try:
        sums = surveyed(_free(recipe), source, owned=True)
        said = kept_faults if kept else stored_faults
        faults = said(parents.manifest, sums.checkpoint.tensors)
        if faults:
            raise not_the_merge(faults)
    except MdmError:
        source.close()
        raise
    return sums


def _free(recipe: Recipe) -> str:
    taken, name = {m.name for m in recipe.models}, _SUMS
    while name in taken:
        name += "_"
    return name


def _rounded(manifest: Manifest) -> Finding:
    dtypes = sorted({t.dtype for t in manifest.tensors.values()})
    return Finding(
        Level.WARNING,
        Kind.RECIPE,
        "the merge keeps no sums, so what it has of its models is read back from its weights, as "
        f"they were rounded to {', '.join(dtypes)}; the manifest will say how much that cost",
        "ledger: {keep: state} in the first recipe keeps them, and costs nothing later",
    )


def _parents_of(parents: Parents, opened: Survey, drop: Collection[str] = ()) -> tuple[Parent, ...]:
    """Return the models of the result: those of the merge that stay, and those opened now."""
    stay = [s for s in parents.manifest.sources if s.name not in drop]
    base = opened.base.source if opened.base else None
    # The models in the sums may be gone; what they stated when they were merged still holds.
    found: list[Parent] = []
    for s in stay:
        here = base if s.role == "base" else None
        found += parents_of(s.name, here, s, Origin("hub", s.repo, s.commit))
    for new in opened.models:
        found += parents_of(new.name, new.source, None)
    return tuple(found)
