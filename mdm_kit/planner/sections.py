"""What each slice of a recipe makes: tensors of the result, of which layers of which models.

A section is a merge of its own. Its models are surveyed models whose tensors stand under the names
they have in the result, so nothing behind this file knows of slices. Layers are counted anew behind
one another; tensors before the layers come from the first slice, those behind them from the last,
as in mergekit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mdm_kit.methods.contract import Method
from mdm_kit.planner.patterns import (
    LayerPosition,
    depths,
    is_before_layers,
    layer_position,
    module_of,
    of_module,
    relayered,
)
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.recipe import ModelEntry, Module, Recipe, Slice, joined
from mdm_kit.words import Finding, Kind, Level, ModelRef, Place, TensorInfo, shown

_DEFAULT = "default"
"""What mergekit calls the one module of most models."""


@dataclass(frozen=True, slots=True)
class Section:
    """Tensors of the result that are made of the same models with the same parameters.

    `recipe` is that of this part alone. `places` holds the place t of each tensor between the first
    layer, 0, and the last, 1, of its slice.
    """

    recipe: Recipe
    survey: Survey
    places: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of layers that was put together anew.

    `name` is what stands before a layer's number, `n_before` the layers the donor has, `origins`
    for each layer of the result the model that gives its form, and its number there.
    """

    name: str
    n_before: int
    origins: tuple[tuple[Surveyed, int], ...]


@dataclass(slots=True)
class Sections:
    """All sections of a recipe, in the order of the result, and what is wrong with them.

    `untouched` are tensors of the donor that belong to no module, and are copied.
    """

    sections: list[Section] = field(default_factory=list)
    stacks: list[Stack] = field(default_factory=list)
    untouched: dict[str, TensorInfo] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def section_recipes(recipe: Recipe, method: Method) -> tuple[Recipe, ...]:
    """Return the recipe of each slice, with the parameters of all levels; one without slices."""
    return tuple(own for _, slices in _pieces(recipe, method) for _, own in slices)


def _pieces(recipe: Recipe, method: Method) -> list[tuple[Module, list[tuple[Slice, Recipe]]]]:
    if not recipe.modules:
        whole = Slice(recipe.models, place=recipe.merge_method.place)
        return [(Module(None, (whole,)), [(whole, _based(recipe, method))])]
    return [
        (m, [(s, _based(_alone(recipe, m, s), method)) for s in m.slices]) for m in recipe.modules
    ]


def _alone(recipe: Recipe, module: Module, s: Slice) -> Recipe:
    parameters = joined(joined(s.parameters, module.parameters), recipe.parameters)
    base = s.base_model or recipe.base_model
    return replace(recipe, models=s.models, base_model=base, parameters=parameters, modules=())


def _based(recipe: Recipe, method: Method) -> Recipe:
    """Return a slice's recipe, without a base the method does not need and the slice has not.

    As in mergekit, which lets such a base count beside whole models only.
    """
    base = recipe.base_model
    idle = base is not None and method.base in ("ignored", "counted")
    ranged = any(m.layer_range for m in recipe.models)
    if idle and ranged and all(base is not None and m.ref != base.ref for m in recipe.models):
        return replace(recipe, base_model=None)
    return recipe


def sections_of(recipe: Recipe, method: Method, survey: Survey) -> Sections:
    """Return what each slice of `recipe` makes of the surveyed models."""
    found = Sections()
    if not recipe.is_sliced:
        places = depths(survey.donor.checkpoint.tensors)
        found.sections.append(Section(recipe, survey, places))
        return found
    names = survey.donor.checkpoint.tensors
    taken: set[str] = set()
    for module, slices in _pieces(_default_named(recipe, names), method):
        own = [n for n in names if module.name is None or of_module(n, module.name)]
        if not own or not taken.isdisjoint(own):
            found.findings.append(_no_module(module, survey.donor, overlaps=bool(own)))
            continue
        taken.update(own)
        _Layers(recipe, module, own, survey, found).add(slices)
    found.untouched |= {n: info for n, info in names.items() if n not in taken}
    return found


def _default_named(recipe: Recipe, names: Collection[str]) -> Recipe:
    """Return the recipe with mergekit's module `default`, of models of one tower, as all of it."""
    one_tower = len({module_of(name) for name in names}) == 1
    if not one_tower or [m.name for m in recipe.modules] != [_DEFAULT]:
        return recipe
    return replace(recipe, modules=(replace(recipe.modules[0], name=None),))


def _no_module(module: Module, donor: Surveyed, *, overlaps: bool) -> Finding:
    name = shown(module.name or "", 60)
    known = ", ".join(dict.fromkeys(map(module_of, donor.checkpoint.tensors)))
    what = f"{shown(donor.name)} has no module {name!r}"
    if overlaps:
        what = f"the module {name!r} has tensors of another module in this recipe"
    return _wrong(what, module.place, f"its modules: {known}; or the beginning of a tensor's name")


@dataclass(slots=True)
class _Anatomy:
    """A model's tensors: those of each layer of a stack, those before the layers and behind.

    Each stands behind its number in the model's own order.
    """

    layers: dict[int, list[tuple[int, str, LayerPosition]]] = field(default_factory=dict)
    before: list[tuple[int, str]] = field(default_factory=list)
    behind: list[tuple[int, str]] = field(default_factory=list)

    @property
    def n_layers(self) -> int:
        """How many layers there are, counted by the last one's number."""
        return max(self.layers, default=-1) + 1


class _Layers:
    """Puts the slices of one module behind one another."""

    def __init__(
        self,
        recipe: Recipe,
        module: Module,
        names: Sequence[str],
        survey: Survey,
        found: Sections,
    ) -> None:
        self._module, self._names, self._found = module, names, found
        self._models = {s.name: s for s in survey.models}
        self._bases = {m.ref: self._models[m.name] for m in recipe.models}
        if recipe.base_model is not None and survey.base is not None:
            self._bases[recipe.base_model.ref] = survey.base
        self._donor = survey.donor
        positions = [p for n in names if (p := layer_position(n))]
        self._stacks = list(dict.fromkeys(p.stack for p in positions))
        self._anatomies: dict[str, _Anatomy] = {}
        self._origins: list[tuple[Surveyed, int]] = []

    def add(self, slices: Sequence[tuple[Slice, Recipe]]) -> None:
        """Add the sections of these slices, each with its recipe."""
        if not any(entry.layer_range for s, _ in slices for entry in s.models):
            for s, recipe in slices:
                self._add_whole(s, recipe)
            return
        if len(self._stacks) != 1:
            self._found.findings.append(self._not_one_stack(slices[0][0]))
            return
        for i, (s, recipe) in enumerate(slices):
            self._add_slice(s, recipe, first=i == 0, last=i == len(slices) - 1)
        if self._origins:
            n_before = self._anatomy(self._donor).n_layers
            self._found.stacks.append(Stack(self._stacks[0], n_before, tuple(self._origins)))

    def _not_one_stack(self, s: Slice) -> Finding:
        names = ", ".join(dict.fromkeys(module_of(n) for n in self._names))
        what = f"{shown(self._donor.name)} has {len(self._stacks)} stacks of layers"
        return _wrong(
            f"{what}, so slices fit none of them",
            s.place,
            "say which under 'modules', as in modules: {NAME: {slices: [...]}}; its modules: "
            + names,
        )

    def _add_whole(self, s: Slice, recipe: Recipe) -> None:
        views = {e.ref: self._whole(self._models[e.name], e.place) for e in s.models}
        base = None
        if recipe.base_model is not None:
            given = self._bases.get(recipe.base_model.ref)
            base = views.get(recipe.base_model.ref) or (given and self._whole(given, given.place))
        survey = Survey(tuple(views.values()), base, ())
        self._found.sections.append(Section(recipe, survey, depths(self._names)))

    def _whole(self, model: Surveyed, place: Place) -> Surveyed:
        return _view(model, {n: n for n in model.checkpoint.tensors if self._mine(n)}, place)

    def _mine(self, name: str) -> bool:
        return self._module.name is None or of_module(name, self._module.name)

    def _add_slice(self, s: Slice, recipe: Recipe, *, first: bool, last: bool) -> None:
        problems = [p for e in s.models if (p := self._outside(e, self._models[e.name]))]
        self._found.findings += problems
        if problems or not s.models:
            return
        start = len(self._origins)
        entries = {e.ref: e for e in s.models}
        views = [self._cut(e, self._models[e.name], start, first, last) for e in s.models]
        base = None
        if recipe.base_model is not None:
            entry = entries.get(recipe.base_model.ref) or self._of_base(s, recipe.base_model.ref)
            if entry is None:
                return
            entries[entry.ref] = entry
            base = self._cut(entry, self._bases[recipe.base_model.ref], start, first, last)
        n = _last(s.models[0]) - _first(s.models[0])
        survey = Survey(tuple(views), base, ())
        self._found.sections.append(Section(recipe, survey, _places(survey, start, n)))
        form = s.models[0] if recipe.base_model is None else entries[recipe.base_model.ref]
        model = self._bases[form.ref]
        self._origins += [(model, _first(form) + i) for i in range(n)]

    def _of_base(self, s: Slice, ref: ModelRef) -> ModelEntry | None:
        """Return the layers of a base that is no source of the slice: those all sources have."""
        base, first = self._bases.get(ref), s.models[0]
        if base is not None and len({e.layer_range for e in s.models}) == 1:
            entry = replace(first, located=replace(first.located, ref=ref), name=base.name)
            if self._outside(entry, base) is None:
                return entry
        self._found.findings.append(
            _wrong(
                f"the base {shown(str(ref))} is none of the sources of this slice, and which of "
                "its layers they change cannot be told",
                s.place,
                "put the base among the sources, with its layer_range",
            )
        )
        return None

    def _outside(self, entry: ModelEntry, model: Surveyed) -> Finding | None:
        """Return what is wrong with a range of layers."""
        n_layers = self._anatomy(model).n_layers
        if _last(entry) <= n_layers:
            return None
        found = [_first(entry), _last(entry)]
        return _wrong(
            f"{shown(entry.name)} has {n_layers} layers, found layer_range {found}",
            entry.place,
            f"write at most layer_range: [0, {n_layers}]; the second number is not included",
        )

    def _cut(
        self, entry: ModelEntry, model: Surveyed, start: int, first: bool, last: bool
    ) -> Surveyed:
        """Return a model with the layers of its range alone, counted from `start` on."""
        anatomy = self._anatomy(model)
        found = [
            (at, n, n)
            for at, n in (*(anatomy.before if first else ()), *(anatomy.behind if last else ()))
        ]
        for i in range(_first(entry), _last(entry)):
            new = start + i - _first(entry)
            found += [(at, relayered(n, p, new), n) for at, n, p in anatomy.layers.get(i, ())]
        return _view(model, {new: old for _, new, old in sorted(found)}, entry.place)

    def _anatomy(self, model: Surveyed) -> _Anatomy:
        """Return where a model's tensors of this module stand; looked up once for all slices."""
        if model.name not in self._anatomies:
            found = self._anatomies[model.name] = _Anatomy()
            for at, name in enumerate(model.checkpoint.tensors):
                position = layer_position(name)
                if position is not None and position.stack == self._stacks[0]:
                    found.layers.setdefault(position.index, []).append((at, name, position))
                elif self._mine(name):
                    (found.before if is_before_layers(name) else found.behind).append((at, name))
        return self._anatomies[model.name]


def _places(survey: Survey, start: int, n: int) -> dict[str, float]:
    """Return each tensor's place in a slice of n layers, the first of which is layer `start`."""
    positions = {name: layer_position(name) for name in survey.donor.checkpoint.tensors}
    return {
        name: 0.0 if p is None else 1.0 if n == 1 else (p.index - start) / (n - 1)
        for name, p in positions.items()
    }


def _view(model: Surveyed, names: Mapping[str, str], place: Place) -> Surveyed:
    """Return the model with other tensors: by the name in the result, that in the model."""
    tensors = {new: model.checkpoint.tensors[old] for new, old in names.items()}
    return replace(model, checkpoint=replace(model.checkpoint, tensors=tensors), place=place)


def _first(entry: ModelEntry) -> int:
    return entry.layer_range[0] if entry.layer_range else 0


def _last(entry: ModelEntry) -> int:
    return entry.layer_range[1] if entry.layer_range else 0


def _wrong(message: str, place: Place | None, hint: str = "") -> Finding:
    return Finding(Level.ERROR, Kind.RECIPE, message, hint, place)
