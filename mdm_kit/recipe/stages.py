"""Several documents in one recipe: each but the last is a stage, whose result later ones may name.

What is read here is what mergekit-multi reads, in the order it is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.references import parse_reference
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.words import ModelRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mdm_kit.recipe.collector import Collector
    from mdm_kit.recipe.model import Recipe
    from mdm_kit.words import Place

MAX_STAGES = 100
"""Documents of a recipe; each is a merge that must be planned."""

_OF_THE_RESULT = ("push", "license", "ledger")
"""Keys that say what becomes of the result, and of nothing else."""


def in_stages(documents: Sequence[Recipe], found: Collector) -> Recipe:
    """Return the last document, with those before it as its stages.

    What is wrong with their names, and with the way they use one another, is in `found`.
    """
    if len(documents) == 1:
        return documents[0]
    last = documents[-1]
    if len(documents) > MAX_STAGES:
        message = f"expected at most {MAX_STAGES} documents, found {len(documents):,}"
        found.error(message, last.merge_method.place)
        return last
    names = _check_names(documents, found)
    used: set[str] = set()
    for i, document in enumerate(documents):
        used |= _check_inputs(document, i, names, found)
    for document in documents[:-1]:
        _check_keys(document, found)
        if document.name is not None and document.name not in used:
            message = f"no later document uses the stage '{seen(document.name)}'"
            found.warning(message, _place_of(document), "name it as a model, or leave it out")
    stages = [replace(d, earlier=_before(documents, i)) for i, d in enumerate(documents)]
    return replace(
        stages[-1],
        stages=tuple(stages[:-1]),
        dialect=all(d.dialect for d in documents),
    )


def _before(documents: Sequence[Recipe], i: int) -> tuple[str, ...]:
    return tuple(d.name for d in documents[:i] if d.name is not None)


def _place_of(document: Recipe) -> Place:
    return document.place_of("name") or document.merge_method.place


def _check_names(documents: Sequence[Recipe], found: Collector) -> dict[str, int]:
    """Return the documents' names, each with the number of its document."""
    names: dict[str, int] = {}
    for i, document in enumerate(documents):
        name, place = document.name, _place_of(document)
        if name is None:
            if document is not documents[-1]:
                message = "a document before the last one has no 'name' by which another can use it"
                hint = "write name: ... into it; the last document is the result"
                found.error(message, place, hint)
        elif name in names:
            line = _place_of(documents[names[name]]).line
            message = f"the name '{seen(name)}' is taken by the document with it in line {line}"
            found.error(message, place, "give every document a name of its own")
        else:
            names[name] = i
            if document is not documents[-1] and not _is_reference(name):
                message = f"the name '{seen(name)}' cannot stand where a model does"
                found.error(message, place, "use letters, digits and . _ -")
    return names


def _is_reference(name: str) -> bool:
    try:
        return parse_reference(Scalar(name)) == ModelRef(name)
    except WrongValue:
        return False


def _check_inputs(document: Recipe, i: int, names: Mapping[str, int], found: Collector) -> set[str]:
    """Return the names of the stages a document uses, each of which must stand before it."""
    used = set()
    for located in document.inputs:
        ref = located.ref
        at = names.get(ref.path)
        if at is None:
            continue
        name = seen(ref.path)
        if at >= i:
            what = "is this document itself" if at == i else "stands behind this one"
            message = f"'{name}' {what}, and a document can only use those before it"
            hint = "put it before; write a folder of that name as './name'"
            found.error(message, located.place, hint)
        elif ref != ModelRef(ref.path):
            message = f"'{name}' is a stage of this recipe, and has no revision and no adapter"
            found.error(message, located.place, "write the name alone")
        else:
            used.add(ref.path)
    return used


def _check_keys(document: Recipe, found: Collector) -> None:
    for key in _OF_THE_RESULT:
        place = document.place_of(key)
        if place is not None:
            message = f"'{key}' is about the result, and this document is only a stage of it"
            found.error(message, place, "put it into the last document")
