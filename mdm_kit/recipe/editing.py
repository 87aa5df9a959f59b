"""A recipe with models taken out or put in, as a new text.

The text is written anew, key by key: what a comment said of the old recipe need not be true of the
new one. Values keep the letters they were written with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.recipe.model import Filters, Gradient, Setting
from mdm_kit.recipe.quoting import quoted

if TYPE_CHECKING:
    from mdm_kit.recipe.model import Filtered, Parameter, Recipe
    from mdm_kit.recipe.scalars import Scalar

_SAFE = re.compile(r"[A-Za-z0-9_.+-]+")
"""Plain scalars that mean the same between the brackets of a flow collection."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A model to put in: its reference, and its name and weight where they are given."""

    reference: str
    name: str | None = None
    weight: float | None = None


def edited_text(
    recipe: Recipe,
    *,
    drop: Collection[str] = (),
    add: Sequence[Addition] = (),
    reset: Collection[str] = (),
) -> str:
    """Return the text of `recipe` without the models named in `drop` and with those of `add`.

    Added models stand behind the others. Parameters named in `reset` are left out everywhere, so
    that they have their defaults.
    """
    return "\n".join(_lines(recipe, drop, add, reset)) + "\n"


def _lines(
    recipe: Recipe, drop: Collection[str], add: Sequence[Addition], reset: Collection[str]
) -> Iterator[str]:
    yield f"merge_method: {_scalar(recipe.merge_method)}"
    if recipe.base_model is not None:
        yield f"base_model: {quoted(str(recipe.base_model.ref))}"
    yield "models:"
    for entry in recipe.models:
        if entry.name not in drop:
            yield f"  - model: {quoted(str(entry.ref))}"
            if entry.named:
                yield f"    name: {quoted(entry.name)}"
            yield from _parameters("    ", entry.parameters, reset)
    for new in add:
        yield f"  - model: {quoted(new.reference)}"
        if new.name is not None:
            yield f"    name: {quoted(new.name)}"
        if new.weight is not None:
            yield f"    parameters: {{weight: {new.weight!r}}}"
    yield from _parameters("", recipe.parameters, reset)
    for key, dtype in (("dtype", recipe.dtype), ("out_dtype", recipe.out_dtype)):
        if dtype is not None:
            yield f"{key}: {dtype.torch_name}"
    if recipe.seed:
        yield f"seed: {recipe.seed}"
    for key, text in (("name", recipe.name), ("license", recipe.license)):
        if text is not None:
            yield f"{key}: {quoted(text)}"
    if recipe.ledger != "references":
        yield f"ledger: {{keep: {quoted(recipe.ledger)}}}"


def _parameters(
    indent: str, parameters: Sequence[Parameter], reset: Collection[str]
) -> Iterator[str]:
    kept = [p for p in parameters if p.name not in reset]
    if kept:
        yield f"{indent}parameters:"
    for p in kept:
        name = p.name if _SAFE.fullmatch(p.name) else quoted(p.name)
        yield f"{indent}  {name}: {_setting(p.setting)}"


def _setting(setting: Setting) -> str:
    if isinstance(setting, Gradient):
        return f"[{', '.join(map(_scalar, setting.values))}]"
    if isinstance(setting, Filters):
        return f"[{', '.join(map(_filtered, setting.entries))}]"
    return _scalar(setting)


def _filtered(entry: Filtered) -> str:
    where = "" if entry.filter is None else f"filter: {quoted(entry.filter)}, "
    return f"{{{where}value: {_setting(entry.value)}}}"


def _scalar(scalar: Scalar) -> str:
    return scalar.text if scalar.plain and _SAFE.fullmatch(scalar.text) else quoted(scalar.text)
