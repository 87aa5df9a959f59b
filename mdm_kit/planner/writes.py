"""The output tensors of a merge: which sources each is made of, how, and in what dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.methods.registry import methods
from mdm_kit.planner.licences import Parent
from mdm_kit.planner.matrices import Matrices, is_tied_copy
from mdm_kit.planner.mismatch import unable
from mdm_kit.planner.nodes import Apply, Delta, Fold, Read, Same, Start, Write
from mdm_kit.planner.parameters import Missing, Parameters
from mdm_kit.planner.patterns import group_of, is_head
from mdm_kit.planner.sections import Section
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.recipe import ModelEntry, Recipe
from mdm_kit.words import DTYPES, DType, Finding, Kind, Level, TensorInfo, shown


def taking_part(recipe: Recipe, method: Method) -> list[ModelEntry]:
    """Return the listed models a method works on; the base has no delta against itself."""
    if method.base in ("ignored", "counted") or recipe.base_model is None:
        return list(recipe.models)
    return [m for m in recipe.models if m.ref != recipe.base_model.ref]


_CAST = "passthrough"
"""The method that gives its one model as it is."""

Starts = Callable[[str, MethodParams], Start]
"""Gives what a tensor of this name, with these parameters, goes on from."""


@dataclass(frozen=True, slots=True)
class Starting:
    """An earlier merge to go on from: the models that join it, or leave it, and its own sums.

    `parents` are all models of the result, whose licences it is under.
    """

    survey: Survey
    sums: Surveyed
    start: Starts
    parents: tuple[Parent, ...]
    leaves: bool = False


class _Maps:
    """The linear maps of a merge's tensors, for a method that asks for them."""

    def __init__(self, recipe: Recipe, method: Method, surveyed: Survey) -> None:
        donor = surveyed.donor
        self._recipe, self._method, self._config = recipe, method, donor.config
        self._shapes = {n: t.shape for n, t in donor.checkpoint.tensors.items()}
        self._known: Matrices | None = None

    def of(self, name: str, params: MethodParams) -> tuple[tuple[Matrix, ...], bool]:
        """Return the maps of a tensor, and whether it counts for itself."""
        if self._known is None:
            chosen: tuple[str, ...] = getattr(params, "project", ())
            self._known = Matrices(self._shapes, self._config, chosen or None)
        return self._known.of(name), not is_tied_copy(name, self._shapes, self._config)

    def findings(self) -> list[Finding]:
        """Return a warning for each pattern that chooses nothing."""
        idle = self._known.idle() if self._known else []
        return [
            Finding(
                Level.WARNING,
                Kind.RECIPE,
                f"{shown(pattern, 60)!r} of 'project' chooses no tensor with two axes or more",
                "look at names with mdm-kit inspect; a pattern without * is a part of a name",
                self._recipe.merge_method.place,
            )
            for pattern in idle
        ]


def _on_matrices(
    method: Method, write: Write, maps: tuple[tuple[Matrix, ...], bool], starting: Starting | None
) -> Write:
    """Return a tensor's node with its linear maps, and what it goes on from.

    The same node for a joint method, where there is no map: then it is a fold.
    """
    root = write.root
    assert isinstance(root, Fold)  # noqa: S101 -- matrix methods work on deltas
    matrices, counts = maps
    if not method.keeps_sums:
        return replace(
            write, root=replace(root, delta=replace(root.delta, matrices=matrices or None))
        )
    start = starting.start(write.name, root.delta.params) if starting else None
    apply = replace(root.delta, matrices=matrices, counts=counts, start=start)
    return replace(write, root=replace(root, delta=apply))


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The sources of one merge, ready to build nodes from."""

    models: tuple[Surveyed, ...]
    base: Surveyed | None
    everyone: tuple[Surveyed, ...]
    names: Mapping[str, TensorInfo]

    def having(self, name: str) -> _Inputs:
        """Return the sources that have a tensor; the same object where all have."""
        models = tuple(s for s in self.models if name in s.checkpoint.tensors)
        if len(models) == len(self.models):
            return self
        everyone = (self.base, *models) if self.base else models
        return _Inputs(models, self.base, everyone, self.names)


@dataclass(slots=True)
class Written:
    """Output tensors in order, and what is wrong with their parameters.

    `idle` are patterns that choose no tensor of this section.
    """

    writes: list[Write] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    idle: list[Finding] = field(default_factory=list)


def writes_of(
    section: Section,
    method: Method,
    parameters: Parameters,
    starting: Starting | None = None,
) -> Written:
    """Return the output tensors of a section, in its donor's order.

    With `starting` the surveyed models are those that join, or leave, the sums of an earlier merge.
    """
    recipe, surveyed = section.recipe, section.survey
    part = {m.name for m in taking_part(recipe, method)}
    if starting is None:
        by_entry = zip(recipe.models, surveyed.models, strict=True)
        models = tuple(s for entry, s in by_entry if entry.name in part)
    else:
        models = surveyed.models
    base, joining = surveyed.base, models
    if base is not None and method.base == "first":
        models = (base, *models)
    notes = []
    if base is not None and method.base == "counted" and base not in models:
        models = (*models, base)
        what = f"{base.name} counts as one of the models of {method.name}, as in mergekit"
        notes = [Finding(Level.NOTE, Kind.RECIPE, what, place=base.place)]
    if not method.takes_deltas(with_base=base is not None):
        base = None
    # A base_model that a weight method does not read still names the tensors and gives the config.
    names = surveyed.donor.written
    inputs = _Inputs(models, base, (base, *models) if base else models, names)
    maps = _Maps(recipe, method, surveyed)
    writes: list[Write] = []
    missing: dict[tuple[str, str | None], list[Missing]] = {}
    for name, like in names.items():
        taken, only = inputs, None
        if name in surveyed.partial:
            taken = inputs.having(name)
            only = [i for i, m in enumerate(joining) if name in m.checkpoint.tensors]
        if name in surveyed.passed or (only is not None and len(only) < max(1, method.min_models)):
            own = surveyed.donor.checkpoint.tensors[name]
            writes.append(copy_of(recipe, name, own, like.dtype, passed=True))
            continue
        params = None
        if DTYPES[like.dtype].merges:
            called: list[str] = []
            if starting is None:
                # Models that join sums are fewer than those whose parameters are asked for.
                called = [_called(name, s) for s in joining if name in s.checkpoint.tensors]
            try:
                params = parameters.at(name, section.places[name], called, only)
            except Missing as gap:
                who = gap.model.name if gap.model else None
                missing.setdefault((gap.spec.name, who), []).append(gap)
                continue
        write = _write(recipe, method, taken, name, params)
        if taken is not inputs:
            gone = (m.name for m in inputs.models if m not in taken.models)
            write = replace(write, without=tuple(gone))
        if method.matrix_rule is not None and params is not None:
            write = _on_matrices(method, write, maps.of(name, params), starting)
        writes.append(write)
    n_merged = sum(DTYPES[t.dtype].merges for t in names.values())
    found = notes + [_missing(gaps, n_merged) for gaps in missing.values()]
    found += unable(recipe, method, writes)
    found += [
        Finding(
            Level.ERROR,
            Kind.RECIPE,
            f"{method.name}: {problem}",
            place=recipe.merge_method.place,
        )
        for params in parameters.distinct()
        if (problem := params.problem())
    ]
    return Written(writes, found, maps.findings())


def _called(name: str, model: Surveyed) -> str:
    """Return what a model calls a tensor; a head that is read from its embedding is a head."""
    own = model.checkpoint.tensors[name].name
    return name if is_head(name) and not is_head(own) else own


def copy_of(
    recipe: Recipe, name: str, like: TensorInfo, stored: str, *, passed: bool = False
) -> Write:
    """Return an output tensor that is a copy of one of the donor's, in the dtype of the result.

    That is `stored`, the dtype the donor stores it in, where the recipe says nothing.
    """
    out = recipe.out_dtype or recipe.dtype or DTYPES[stored]
    root: Same | Apply = Same((Read(like),))
    if out.name == like.dtype or not DTYPES[like.dtype].merges:
        return Write(name, like.shape, like.dtype, like.nbytes, root, passed)
    root = Apply(_CAST, (Read(like),), methods()[_CAST].params(), "float64")
    return Write(name, like.shape, out.name, like.n_elements * out.bits // 8, root, passed)


def _missing(gaps: Sequence[Missing], n_merged: int) -> Finding:
    first = gaps[0]
    who = f" for {first.model.name}" if first.model else ""
    which = "" if len(gaps) == n_merged else f" for {len(gaps)} tensors, as {shown(first.tensor)}"
    return Finding(
        Level.ERROR,
        Kind.RECIPE,
        f"the parameter '{first.spec.name}' ({first.spec.help}) has no value{who}{which}",
        f"write parameters: {{{first.spec.name}: ...}} under the model, or at the top for all",
        first.model.place if first.model else None,
    )


def _write(
    recipe: Recipe, method: Method, inputs: _Inputs, name: str, params: MethodParams | None
) -> Write:
    like = inputs.names[name]
    if params is None:
        reads = tuple(Read(s.checkpoint.tensors[name]) for s in inputs.everyone)
        return Write(name, like.shape, like.dtype, like.nbytes, Same(tuple(dict.fromkeys(reads))))
    models = tuple(Read(s.checkpoint.tensors[name]) for s in inputs.models)
    out = recipe.out_dtype or recipe.dtype or DTYPES[like.dtype]
    nbytes = like.n_elements * out.bits // 8
    root: Apply | Fold
    scope = getattr(params, "scope", "tensor")
    group = group_of(name, scope) if method.solve else None
    if inputs.base is not None:
        base = Read(inputs.base.checkpoint.tensors[name])
        compute = _compute(recipe, out, (*models, base), in_weights=False)
        compute = "float64" if params.fine() else compute
        deltas = tuple(Delta(m, base) for m in models)
        root = Fold(base, Apply(method.name, deltas, params, compute, group, scope == "tensor"))
    else:
        compute = _compute(recipe, out, models, in_weights=True)
        root = Apply(method.name, models, params, compute)
    return Write(name, like.shape, out.name, nbytes, root)


def _compute(recipe: Recipe, out: DType, reads: Sequence[Read], *, in_weights: bool) -> str:
    """Return the dtype of a tensor's arithmetic: float32, or float64 where that is too coarse.

    Float64 anywhere (an input, `dtype`, the output) raises it. So does a sum of whole weights that
    is stored as float32: every step would round at the result's own precision, where a sum of
    deltas rounds at the deltas' much smaller scale and only once at the weights'.
    """
    asked = {out.name, *(r.info.dtype for r in reads)} | (
        {recipe.dtype.name} if recipe.dtype else set()
    )
    if "F64" in asked or (in_weights and out.name == "F32"):
        return "float64"
    return "float32"
