"""How models leave and join a finished merge: what is done, what it gives, which models it reads.

Whoever plans, checks or describes an edit asks here. Five ways lead out behind the three modes of
`unmerge`, for a merge that keeps sums has shorter ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mdm_kit.ledger.entries import Mode
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.words import shown

Way = Literal["anew", "back", "sums", "patch", "subtract"]
Joining = Literal["sums", "weights", "anew"]
"""What a model that joins is merged with: kept sums, the rounded weights, all models again."""

MOST_NAMED = 3
"""Models that fit into the cell of a table."""


@dataclass(frozen=True, slots=True)
class WayInWords:
    """What is `done` to take a model out, what that `gives`, and which models it `reads`."""

    done: str
    gives: str
    reads: str


_SAME_BYTES = "the bytes of a merge that never contained it"
WAYS: dict[Way, WayInWords] = {
    "anew": WayInWords(
        "base and the others merged anew",
        _SAME_BYTES,
        "the base and every model that stays",
    ),
    "back": WayInWords(
        "the sum before it, which is kept, put on the base",
        _SAME_BYTES,
        "the base and no model",
    ),
    "sums": WayInWords(
        "its part taken out of the sums, which are kept",
        _SAME_BYTES,
        "the base and the model that leaves",
    ),
    "patch": WayInWords(
        "the stored weights changed where a delta's weight does",
        "at most one step of the dtype away",
        "the base and the models whose weight changes",
    ),
    "subtract": WayInWords(
        "what was added of it taken away",
        "exact for the model merged last, else what stays is said",
        "the base and every model that something is left of",
    ),
}
JOINS: dict[Joining, str] = {
    "sums": "joins the sums that are kept: the base and that model are read, no other",
    "weights": "joins what the rounded weights hold: the base and that model are read, and what "
    "rounding cost is said; `ledger: {keep: state}` would cost nothing",
    "anew": "is merged with all others again, which are read",
}


def merged_models(manifest: Manifest, without: Collection[str] = ()) -> list[str]:
    """Return the names of the models that are merged, in their order."""
    return [
        s.name
        for s in manifest.sources
        if s.role == "model" and s.status == "merged" and s.name not in without
    ]


def joining(manifest: Manifest) -> Joining:
    """Return how one more model is merged with what a merge holds."""
    sums = manifest.sums
    if sums is None or manifest.patched or not manifest.is_whole:
        return "anew"
    if sums.files:
        return "sums"
    keeps_models = any(s.kept for s in manifest.sources)
    return "weights" if sums.lambdas and not keeps_models else "anew"


def usual_way(mode: Mode, *, summed: bool) -> Way:
    """Return what a mode does to a merge by a method that is `summed`, but for its last model."""
    if mode == "subtract":
        return "subtract"
    if mode == "exact":
        return "sums" if summed else "patch"
    return "anew"


def way_out(manifest: Manifest, mode: Mode, drop: Sequence[str]) -> Way:
    """Return what an `unmerge` of these models does, where the merge can be taken apart so."""
    sums = manifest.sums
    way = usual_way(mode, summed=sums is not None)
    if way != "anew" or sums is None or not (sums.steps_back and sums.files and sums.lambdas):
        return way
    if not manifest.is_whole:
        return way
    return "back" if list(drop) == merged_models(manifest)[-1:] else "anew"


def needs(
    manifest: Manifest, way: Way, drop: Collection[str], weighed: Iterable[str] = ()
) -> list[str]:
    """Return which of its models must be had, the base among them, and are not kept by the merge.

    `weighed` are the models whose deltas a patch or a subtraction takes.
    """
    if way == "back":
        read: set[str] = set()
    elif way == "sums":
        read = set(drop)
    else:
        read = set(merged_models(manifest, drop) if way == "anew" else weighed)
    return [
        s.name for s in manifest.sources if (s.role == "base" or s.name in read) and s.kept is None
    ]


def needs_in_words(manifest: Manifest, name: str, needed: Sequence[str]) -> str:
    """Return what must be had to take model `name` out, short: `from base and the others`."""
    if not needed:
        return "from what is kept here"
    base = [s.name for s in manifest.sources if s.role == "base" and s.name in needed]
    rest = [n for n in needed if n not in base]
    others = merged_models(manifest, [name])
    said = [shown(n, 40) for n in base]
    if len(rest) > 1 and rest == others:
        said.append("the others")
    elif len(rest) > MOST_NAMED:
        said.append(f"{len(rest)} models")
    else:
        said += [shown(n, 40) for n in rest]
    if said == [shown(n, 40) for n in base]:
        return f"from {said[0]} alone"
    return f"from {', '.join(said[:-1])} and {said[-1]}" if said[1:] else f"from {said[0]}"
