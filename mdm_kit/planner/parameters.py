"""The recipe's settings checked against the method's parameters, then resolved tensor by tensor.

Precedence is mergekit's: a model's own setting, else the recipe's. A per-model parameter may stand
at either level, a shared one only at the recipe's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from mdm_kit.methods.contract import Method, MethodParams, ParamSpec
from mdm_kit.recipe import (
    CompiledSetting,
    Filters,
    Gradient,
    ModelEntry,
    Parameter,
    Recipe,
    Rule,
    Scalar,
    WrongValue,
    compile_setting,
    did_you_mean,
)
from mdm_kit.words import Finding, Kind, Level, Place, shown

Value = float | bool | str | tuple[str, ...]

LARGEST = 1e100
"""Larger parameters mean nothing, and their sums would overflow."""

INERT_EVERYWHERE = {"int8_mask": "no sign mask is stored"}
"""Parameters of mergekit's that recipes carry along and no result depends on."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A parameter and its setting for each model, or its one setting for the whole merge."""

    spec: ParamSpec
    settings: tuple[CompiledSetting[Value], ...]


def _chosen(row: _Row, only: Sequence[int] | None) -> list[tuple[int, CompiledSetting[Value]]]:
    """Return the settings of some models, or all where a parameter is not one of each model."""
    found = enumerate(row.settings)
    return [(i, s) for i, s in found if only is None or not row.spec.per_model or i in only]


class Missing(Exception):
    """A required parameter has no value for a tensor."""

    def __init__(self, spec: ParamSpec, model: ModelEntry | None, tensor: str) -> None:
        """Say which parameter, for which model and tensor."""
        super().__init__(spec.name)
        self.spec, self.model, self.tensor = spec, model, tensor


class Parameters:
    """Resolves a method's parameters for any tensor; equal values give the same object."""

    def __init__(self, method: Method, recipe: Recipe, models: Sequence[ModelEntry]) -> None:
        """Compile the settings of `recipe` for the `models` that take part, in order.

        What is wrong with them is in `findings` afterwards, all of it.
        """
        self._method = method
        self._recipe = recipe
        self._models = models
        self._interned: dict[tuple[object, ...], MethodParams] = {}
        self.findings: list[Finding] = []
        specs = {s.name: s for s in method.params.specs()}
        top = self._compile(recipe.parameters, specs, per_model_only=False)
        own = [self._compile(m.parameters, specs, per_model_only=True) for m in models]
        for entry in recipe.models:
            if entry not in models:  # the base among the models: its settings count for nothing
                self._compile(entry.parameters, specs, per_model_only=True)
        self._rows = [
            _Row(
                spec,
                tuple(
                    # A weaker level's rules follow the stronger one's: the first that fits wins.
                    CompiledSetting(level.get(spec.name, ()) + top.get(spec.name, ()))
                    for level in (own if spec.per_model else [{}])
                ),
            )
            for spec in specs.values()
        ]

    def _compile(
        self, parameters: Iterable[Parameter], specs: dict[str, ParamSpec], *, per_model_only: bool
    ) -> dict[str, tuple[Rule[Value], ...]]:
        compiled = {}
        for p in parameters:
            spec = specs.get(p.name)
            if spec is None and p.name in INERT_EVERYWHERE:
                self._note(p, INERT_EVERYWHERE[p.name])
            elif spec is None:
                self._unknown(p, specs)
            elif per_model_only and not spec.per_model:
                self._error(
                    p.place,
                    f"{p.name!r} is a parameter of the whole merge, not of one model",
                    "move it to the parameters at the top level",
                )
            elif spec.listed:
                compiled[p.name] = self._listed(p)
            else:
                setting, problems = compile_setting([p.setting], _reader(spec), p.name)
                self.findings += problems
                if spec.constant and not isinstance(p.setting, Scalar):
                    self._error(
                        p.place,
                        f"{p.name!r} has one value for the whole merge",
                        f"write {p.name}: {spec.default}, without gradient or filter",
                    )
                if spec.inert and not problems:
                    self._note(p, spec.inert)
                compiled[p.name] = setting.rules
        return compiled

    def _listed(self, p: Parameter) -> tuple[Rule[Value], ...]:
        if isinstance(p.setting, Filters):
            self._error(p.place, f"{p.name!r}: expected a list of texts, found filters")
            return ()
        values = p.setting.values if isinstance(p.setting, Gradient) else (p.setting,)
        texts = tuple(scalar.text for scalar in values)
        if not all(texts):
            self._error(
                p.place, f"{p.name!r}: expected names or parts of names, found an empty one"
            )
        return (Rule(None, (texts,), False),)

    def _unknown(self, p: Parameter, specs: dict[str, ParamSpec]) -> None:
        known = ", ".join(specs)
        why = self._method.params.absent.get(p.name)
        more = f": {why}" if why else did_you_mean(p.name, specs)
        self._error(
            p.place,
            f"{self._method.name} has no parameter {shown(p.name, 60)!r}{more}",
            f"its parameters: {known}",
        )

    def _note(self, p: Parameter, why: str) -> None:
        self.findings.append(
            Finding(
                Level.NOTE,
                Kind.RECIPE,
                f"{p.name!r} changes nothing in {self._method.name}: {why}",
                place=p.place,
            )
        )

    def _error(self, place: Place, message: str, hint: str = "") -> None:
        self.findings.append(Finding(Level.ERROR, Kind.RECIPE, message, hint, place))

    def at(
        self, name: str, t: float, own: Sequence[str] = (), only: Sequence[int] | None = None
    ) -> MethodParams:
        """Return the method's values for the tensor `name` at layer place `t` in [0, 1].

        `own` is what each model calls it, where that may be something else: as in mergekit, filters
        of a parameter per model look for that. With `only` the values are those of some models, by
        their places among all; `own` is theirs.

        Raises `Missing` where a parameter without a default has no value.
        """
        values: list[object] = []
        for row in self._rows:
            found = tuple(
                self._value(row.spec, setting, i, own[k] if own and row.spec.per_model else name, t)
                for k, (i, setting) in enumerate(_chosen(row, only))
            )
            values.append(found if row.spec.per_model else found[0])
        key = tuple(values)
        if key not in self._interned:
            fields = (row.spec.field for row in self._rows)
            self._interned[key] = self._method.params(**dict(zip(fields, values, strict=True)))
        return self._interned[key]

    def _value(
        self, spec: ParamSpec, setting: CompiledSetting[Value], i: int, name: str, t: float
    ) -> object:
        value = setting.at(name, t)
        if value is None and spec.required:
            raise Missing(spec, self._models[i] if spec.per_model else None, name)
        return spec.default if value is None else value

    def distinct(self) -> Iterable[MethodParams]:
        """Return every distinct set of values handed out so far."""
        return self._interned.values()


def idle_filters(recipes: Iterable[Recipe], names: Collection[str]) -> list[Finding]:
    """Return a warning for each filter in a recipe, or one of its parts, that no name holds."""
    settings = [
        p for r in recipes for p in (*r.parameters, *(p for m in r.models for p in m.parameters))
    ]
    entries = [
        (p, e) for p in settings if isinstance(p.setting, Filters) for e in p.setting.entries
    ]
    idle = {
        entry.place: Finding(
            Level.WARNING,
            Kind.RECIPE,
            f"no tensor's name holds the filter {shown(entry.filter, 60)!r} of {p.name!r}",
            "look at names with mdm-kit inspect; a filter is a part of a name",
            entry.place,
        )
        for p, entry in entries
        if entry.filter not in (None, "*")
        if not any((entry.filter or "") in name for name in names)
    }
    return list(idle.values())


def _reader(spec: ParamSpec) -> Callable[[Scalar], Value]:
    def read(scalar: Scalar) -> Value:
        if spec.type is bool:
            return scalar.as_boolean()
        if spec.type is str or scalar.text in spec.choices:
            return scalar.as_choice(spec.choices)
        try:
            number = float(scalar.as_number())
        except WrongValue as problem:
            if not spec.choices:
                raise
            raise WrongValue(f"{problem}, or {' or '.join(spec.choices)}") from None
        if abs(number) > LARGEST:
            raise WrongValue(f"expected a number up to {LARGEST:g} in size, found {number:g}")
        low, high = spec.minimum, spec.maximum
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"from {low:g} " if low is not None else ""
            bounds += f"up to {high:g}" if high is not None else "upwards"
            raise WrongValue(f"expected a number {bounds}, found {number:g}")
        return number

    return read
