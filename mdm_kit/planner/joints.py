"""Do slices and experts fit into one model?  What no section by itself can tell."""

from __future__ import annotations

from collections.abc import Sequence

from mdm_kit.planner.patterns import is_embedding, is_head, layer_position, relayered
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.words import Finding, Kind, Level, shown


def misplaced(sections: Sequence[Survey], donor: Surveyed) -> list[Finding]:
    """Return an error for each slice that has tensors of a shape the donor has nowhere.

    The donor gives the config. Of layers any of its own may be like; where it has several shapes in
    one place its config tells them apart, and nothing is said.
    """
    known: dict[str, set[tuple[int, ...]]] = {}
    for name, info in donor.checkpoint.tensors.items():
        known.setdefault(_anywhere(name), set()).add(info.shape)
    found = []
    for section in sections:
        giver = section.donor
        wrong = [
            f"{shown(info.name)} {list(info.shape)} against {list(*known[_anywhere(name)])}"
            for name, info in giver.checkpoint.tensors.items()
            if len(known.get(_anywhere(name), ())) == 1 and info.shape not in known[_anywhere(name)]
        ]
        if wrong:
            rows = all(is_embedding(w.split(" ")[0]) or is_head(w.split(" ")[0]) for w in wrong)
            hint = "slices of one result need models of one size"
            found.append(
                Finding(
                    Level.ERROR,
                    Kind.MISFIT,
                    f"{len(wrong):,} tensors of {shown(giver.name)} of another shape than in "
                    f"{shown(donor.name)}, whose config the result has: {', '.join(wrong[:3])}",
                    "write tokenizer: {source: union} to align rows by token" if rows else hint,
                    giver.place,
                )
            )
    return found


def _anywhere(name: str) -> str:
    """Return a tensor's name as it would be in the first layer."""
    position = layer_position(name)
    return name if position is None else relayered(name, position, 0)


def same_twice(survey: Survey) -> list[Finding]:
    """Return an error for each folder that holds a model another folder holds as well.

    A finished merge calls folders by their content, and could not tell which of them is meant.
    """
    first: dict[str, Surveyed] = {}
    found = []
    for model in survey.sources:
        if model.source.origin().kind != "folder":
            continue
        earlier = first.setdefault(model.source.fingerprint(), model)
        if earlier is not model:
            found.append(
                Finding(
                    Level.ERROR,
                    Kind.RECIPE,
                    f"{shown(earlier.name)} and {shown(model.name)} are folders of the same model",
                    "name the same folder in both places",
                    model.place,
                )
            )
    return found
