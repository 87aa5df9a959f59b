"""An example recipe for each method, made from its parameters and the models it takes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from mdm_kit.authoring.goals import GOALS
from mdm_kit.authoring.placeholders import BASE
from mdm_kit.authoring.writing import Draft, Entry
from mdm_kit.recipe.reading import MIXTURE

if TYPE_CHECKING:
    from mdm_kit.methods.contract import Method, ParamSpec

_MIDDLING = 0.5
"""What a number without a default is where nothing bounds it: a weight, a place on an arc."""


_SOME_TENSORS = "[_proj.weight]"
"""What a list of tensors holds: every projection of most models."""


def example(method: Method) -> str:
    """Return a recipe with this method that holds every parameter, with its default if it has one.

    What it says is valid; the models in it are placeholders. Parameters that change nothing are
    left out.
    """
    specs = [s for s in method.params.specs() if not s.inert]
    n = max(method.min_models, min(2, method.max_models or 2))
    if method.name == MIXTURE:
        return GOALS["experts"].text()
    return Draft(
        about=method.title,
        method=method.name,
        models=tuple(
            Entry(
                f"your-org/model-{i}",
                tuple(_line(s, explained=i == 1) for s in specs if s.per_model),
            )
            for i in range(1, n + 1)
        ),
        base=BASE if method.needs_base else "",
        parameters=tuple(_line(s, explained=True) for s in specs if not s.per_model),
    ).text()


def meaning(spec: ParamSpec) -> str:
    """Return what a parameter means and which values it may have, in one line."""
    if spec.inert:
        return f"changes nothing here: {spec.inert}"
    if spec.listed:
        return f"{spec.help}: names with * and ?, or parts of names"
    if spec.choices and spec.type is str:
        return f"{spec.help}: {', '.join(spec.choices)}"
    if spec.choices:
        return f"{spec.help}: {', '.join(spec.choices)} or a number"
    low, high = spec.minimum, spec.maximum
    if low is not None:
        return f"{spec.help} ({low:g} {'or more' if high is None else f'to {high:g}'})"
    return spec.help if high is None else f"{spec.help} (at most {high:g})"


def _line(spec: ParamSpec, *, explained: bool) -> str:
    line = f"{spec.name}: {_value(spec)}"
    return f"{line} # {meaning(spec)}" if explained else line


def _value(spec: ParamSpec) -> str:
    value = spec.default
    if spec.listed:
        return _SOME_TENSORS
    if value is None:
        value = _sensible(spec)
    if isinstance(value, bool):
        return str(value).lower()
    assert not isinstance(value, tuple)  # noqa: S101 -- a list has its own form
    # Without an exponent: readers of YAML 1.1 take 1e-05 for a text.
    return value if isinstance(value, str) else format(Decimal(repr(value)), "f")


def _sensible(spec: ParamSpec) -> float | bool | str:
    """Return a value for a parameter that has no default."""
    if spec.example is not None:
        return spec.example
    if spec.type is bool:
        return True
    if spec.choices:
        return spec.choices[0]
    low, high = spec.minimum, spec.maximum
    if low is not None and high is not None:
        return (low + high) / 2
    return max(_MIDDLING, low) if low is not None else min(_MIDDLING, high or _MIDDLING)
