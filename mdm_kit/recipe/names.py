"""What models are called: the name a recipe gives, or one made from the reference."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import WrongValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdm_kit.recipe.collector import Collector
    from mdm_kit.words import ModelRef, Place

MAX_NAME = 100
"""Longer than any repository name on the Hub (96)."""

_LOCAL = "local:"
_DIGITS = 8
"""Of a digest, to tell apart folders of one recipe."""

_NAME_IT = "give it a name of its own: name: ..."


@dataclass(frozen=True, slots=True)
class Naming:
    """A model to be named: its reference, the name the recipe gives it, where to point."""

    ref: ModelRef
    given: str | None
    place: Place


def check_name(name: str) -> str:
    """Return `name` if it is fit for flags, cards and tables; raises WrongValue otherwise."""
    brief = seen(name)
    if len(name) > MAX_NAME:
        raise WrongValue(f"expected a name of at most {MAX_NAME} characters, found {len(name)}")
    if not name or name != name.strip():
        raise WrongValue(f"the name '{brief}' is empty or starts or ends with a space")
    if not name.isprintable():
        raise WrongValue(f"the name '{brief}' holds a character that cannot be printed")
    if "/" in name or "\\" in name:
        raise WrongValue(f"the name '{brief}' holds a slash")
    if name[0] in ".-":
        raise WrongValue(f"the name '{brief}' starts with '{name[0]}'")
    return name


def name_models(models: Sequence[Naming], found: Collector) -> list[str]:
    """Return one name for each model, in order; names that are still equal are errors.

    The default is the last path segment of the adapter if there is one, else of the model; where
    two names collide, the defaults among them become `owner/name`, the last two segments. Folders
    of a finished merge's recipe, which have no owner, get a piece of their digest, and copies of
    one another a number.
    """
    names = [m.given if m.given is not None else _last_segment(m.ref) for m in models]
    times = Counter(names)
    for i, model in enumerate(models):
        if model.given is not None:
            continue
        if times[names[i]] > 1:
            names[i] = _longer_name(model.ref, names[:i])
        else:
            _check_default(names[i], model, found)
    first: dict[str, Place] = {}
    for name, model in zip(names, models, strict=True):
        if name in first:
            message = f"the name '{seen(name)}' is taken by the model in line"
            found.error(f"{message} {first[name].line}", model.place, _NAME_IT)
        first.setdefault(name, model.place)
    return names


def _path(ref: ModelRef) -> str:
    path = ref.adapter.path if ref.adapter else ref.path
    return path.rstrip("/") or path


def _longer_name(ref: ModelRef, taken: Sequence[str]) -> str:
    """Return the last two segments: `owner/name` on the Hub, and no more of a folder's path."""
    if not (ref.path.startswith(_LOCAL) and ref.revision and ref.adapter is None):
        return "/".join(_path(ref).split("/")[-2:])
    digest = ref.revision.rpartition(":")[2]
    name = f"{_last_segment(ref)}-{digest[:_DIGITS]}"
    times = sum(t == name or t.startswith(f"{name}-") for t in taken)
    return f"{name}-{times + 1}" if times else name


def _last_segment(ref: ModelRef) -> str:
    return _path(ref).rsplit("/", 1)[-1].removeprefix(_LOCAL)


def _check_default(name: str, model: Naming, found: Collector) -> None:
    try:
        check_name(name)
    except WrongValue as problem:
        found.error(f"{problem}; it comes from the path", model.place, _NAME_IT)
