"""Whether what a manifest says of sums can be said at all: lengths, names, ranges, files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from mdm_kit.ledger.entries import SummedTensor, SumsEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.words import shown

SUMS_FILE = re.compile(r"deltas/state-[0-9]{5,}\.safetensors")
"""What a file that keeps sums is called."""
MOST = 1e300
"""No squared norm is larger: sums of more would leave float64."""
MOST_ELEMENTS = 1 << 62
"""No tensor has more."""
SHARE = 1e-9
"""What rounding may add to a share."""
MOST_SHOWN = 3
"""Names that a fault lists."""


def form_faults(
    manifest: Manifest, sums: SumsEntry, *, projects: bool, steady: bool = True
) -> list[str]:
    """Return which parts of `sums` cannot be what they are said to be.

    `projects` and `steady` are those of a `Summation`. The numbers of sums without faults here can
    be computed with: lists are as long as they must be, numbers finite.
    """
    models = [s for s in manifest.sources if s.role == "model"]
    n = len(models)
    if not n:
        return ["sums: are said of no model"]
    gone = [s.name for s in models if s.status == "removed"]
    faults = [f"sums: {shown(name)} is said to be removed, and sums lose it whole" for name in gone]
    faults += _name_faults(manifest, sums)
    grows = n if projects else 0
    lists = (("norms", sums.norms, n), ("lambdas", sums.lambdas, grows))
    faults += [
        f"sums: {what}: {fault}"
        for what, numbers, wanted in lists
        if (fault := _list_fault(numbers, wanted))
    ]
    faults += [f"sums: {fault}" for fault in _single_faults(sums, n, projects=projects)]
    for name, fact in sums.tensors.items():
        entry = manifest.tensors.get(name)
        shape = entry.shape if entry else []
        fault = _shape_fault(shape) or _tensor_fault(fact, n, grows, steady=steady)
        fault = fault or _rank_fault(fact, n, shape)
        faults += [f"sums: {shown(name)}: {fault}"] if fault else []
    return [*faults, *_file_faults(manifest, sums, n, projects=projects)]


def _name_faults(manifest: Manifest, sums: SumsEntry) -> Iterator[str]:
    summed = {n for n, t in manifest.tensors.items() if t.rule == manifest.method}
    for names, what in (
        (sorted(sums.tensors.keys() - summed), "are said to be summed, and the merge has them not"),
        (sorted(summed - sums.tensors.keys()), "of the merge are summed, and nothing is said of"),
    ):
        if names:
            first = ", ".join(shown(name, 60) for name in names[:MOST_SHOWN])
            rest = len(names) - MOST_SHOWN
            yield f"sums: tensors that {what}: {first}{f' and {rest} more' if rest > 0 else ''}"


def _list_fault(numbers: Sequence[float], wanted: int) -> str | None:
    if len(numbers) != wanted:
        return f"expected {wanted} numbers, one for each model, found {len(numbers)}"
    for number in numbers:
        if not 0.0 <= number <= MOST:
            return f"expected a finite number of at least 0, found {number}"
    return None


def _single_faults(sums: SumsEntry, n: int, *, projects: bool) -> Iterator[str]:
    if sums.scale is not None and not abs(sums.scale) <= MOST:
        yield f"scale: expected a finite number, found {sums.scale}"
    if not 0 <= sums.rounded <= (n if projects else 0):
        yield f"rounded: expected a number of models out of {n}, found {shown(str(sums.rounded))}"
    if not 0.0 <= sums.rounding <= MOST or (sums.rounding and not sums.rounded):
        yield f"rounding: expected a share where models were rounded, found {sums.rounding}"


def _shape_fault(shape: Sequence[int]) -> str | None:
    if min(shape, default=0) >= 0 and math.prod(shape) <= MOST_ELEMENTS:
        return None
    return f"a tensor cannot have the shape {shown(str(shape))}"


def _tensor_fault(fact: SummedTensor, n: int, grows: int, *, steady: bool) -> str | None:
    lists = (("energies", fact.energies, n), ("totals", fact.totals, grows))
    for what, numbers, wanted in (*lists, ("kept", fact.kept, grows)):
        fault = _list_fault(numbers, wanted)
        if fault:
            return f"{what}: {fault}"
    if steady and any(share > 1.0 + SHARE for share in fact.kept):
        return f"kept: expected shares of 0 to 1, found {max(fact.kept)}"
    if fact.margin is not None and not (1.0 - SHARE <= fact.margin <= MOST and fact.ranks):
        return f"margin: expected a finite number of at least 1 beside ranks, found {fact.margin}"
    if fact.ranks and not grows:
        return "ranks: nothing is projected, and there are some"
    return None


def _rank_fault(fact: SummedTensor, n: int, shape: Sequence[int]) -> str | None:
    """Say which protected blocks do not fit into the tensor.

    A map of rank r has r² elements at least, and every element lies in one map.
    """
    n_elements = math.prod(shape)
    most, least = min(shape) if len(shape) == 2 else math.isqrt(n_elements), 0
    for row in fact.ranks:
        if len(row) != n:
            return f"ranks: expected {n} for each map, one for each model, found {len(row)}"
        if min(row) < 0 or max(row) > most:
            return f"ranks: expected 0 to {most} in a tensor of {list(shape)}, found others"
        least += max(row) ** 2
    if least > n_elements:
        return f"ranks: maps of these have no room in a tensor of {list(shape)}"
    return None


def _file_faults(manifest: Manifest, sums: SumsEntry, n: int, *, projects: bool) -> Iterator[str]:
    taken = {s.kept for s in manifest.sources}
    for name in sorted({*sums.files}):
        if not SUMS_FILE.fullmatch(name) or name in taken:
            yield f"sums: {shown(name)} is no name of a file of sums (deltas/state-00001...)"
        elif name not in manifest.files:
            yield f"sums: {shown(name)} is none of the files of the merge"
    if len({*sums.files}) != len(sums.files):
        yield "sums: a file is named twice"
    for name in manifest.files:
        if SUMS_FILE.fullmatch(name) and name not in sums.files:
            yield f"sums: {shown(name)} is a file of the merge, and not named as one of its sums"
    if sums.steps_back and not (projects and sums.files and n > 1):
        yield (
            "sums: the sum before the last model is said to be kept, which takes a method that "
            "merges one model after another, two models and kept sums"
        )
