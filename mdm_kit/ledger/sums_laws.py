"""What must hold among the numbers of a merge that is made of sums, whatever the models.

No weight is needed: norms, λ and scale follow from the energies, and the energies of a sum that
grows are bound by geometry. With a = |S_{t-1}|, p = |P(d_t)| and b = |S_t|

    |a - p| <= b <= a + p          always
    b² = a² + p²                   where P takes from d_t all that lies along S_{t-1}

the second but for directions of S_{t-1} that count as dead, whose singular values lie below the
smallest live one over `margin`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdm_kit.ledger.entries import SummedTensor, SumsEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.sums import energies_of, lambdas_of, mean_norm_scale, totals_of
from mdm_kit.ledger.sums_form import form_faults
from mdm_kit.words import shown

SAME = 1e-12
"""Relative difference of numbers that follow from others by the same few operations."""
ROUNDING = 1e-6
"""What storing sums as float32 changes of their norms, relative; it is 6e-8."""
SMALLEST = 1.5e-45
"""What it may change of an element however small that is."""
TILT = 1e-4
"""Cosine to a sum that what was added may have by rounding: singular vectors of small values."""


@dataclass(frozen=True, slots=True)
class Summation:
    """What method and recipe say of a merge's sums, as far as its numbers must show it.

    `projects` tells sums that grow step by step from sums without order. `scale` is the number a
    recipe names, None for the mean norm: of the whole model, or of each tensor where `alone`.
    `orthogonal` is true where all is taken that lies along the sum, and `steady` where no singular
    value counts that rounding could have made. `keeps` says whether sums are to be kept, and `undo`
    how models can then be taken out.
    """

    projects: bool
    undo: tuple[str, ...]
    keeps: bool
    scale: float | None = None
    alone: bool = False
    orthogonal: bool = False
    steady: bool = True


def sums_faults(manifest: Manifest, told: Summation | None) -> list[str]:
    """Return where the sums of a merge contradict themselves, the manifest or what is `told`.

    `told` is None for a method that has no sums. Where lists and numbers cannot be, only that is
    returned: nothing follows from them.
    """
    sums = manifest.sums
    if told is None:
        return [] if sums is None else [f"sums: {shown(manifest.method)} has none"]
    summed = {n for n, t in manifest.tensors.items() if t.rule == manifest.method}
    if sums is None:
        return [f"sums: are missing; {shown(manifest.method)} merges as sums"] if summed else []
    faults = form_faults(manifest, sums, projects=told.projects, steady=told.steady)
    faults += _settings_faults(manifest, sums, told)
    if faults:
        return faults
    faults = list(_whole_faults(manifest, sums, told))
    if told.projects:
        for name, fact in sums.tensors.items():
            n = math.prod(manifest.tensors[name].shape)
            fault = _first_fault(fact, n) or _growth_fault(fact, n, sums, told)
            faults += [f"sums: {shown(name)}: {fault}"] if fault else []
    return faults


def _settings_faults(manifest: Manifest, sums: SumsEntry, told: Summation) -> list[str]:
    """Compare what is kept, and how models can be taken out, with the recipe."""
    faults = []
    if bool(sums.files) != told.keeps and sums.tensors:
        wanted, found = ("some", "none") if told.keeps else ("none", f"{len(sums.files)}")
        faults.append(f"sums: the recipe wants {wanted} of their files kept, found {found}")
    undo = list(told.undo) if sums.files and manifest.is_whole else ["rebuild"]
    if manifest.undo != undo:
        faults.append(
            f"undo: a model can be taken out by {', '.join(undo)}, found "
            f"{', '.join(manifest.undo) or 'nothing'}"
        )
    return faults


def _whole_faults(manifest: Manifest, sums: SumsEntry, told: Summation) -> Iterator[str]:
    """Compare what is said of the whole model with what its tensors give."""
    models = [s.name for s in manifest.sources if s.role == "model"]
    energies = energies_of(sums.tensors.values()) or [0.0] * len(models)
    follow = [("norm", sums.norms, [math.sqrt(e) for e in energies])]
    if told.projects:
        lambdas = lambdas_of(sums.tensors) or [0.0] * len(models)
        follow.append(("lambda", sums.lambdas, lambdas))
    for what, found, wanted in follow:
        for model, f, w in zip(models, found, wanted, strict=True):
            if not _same(f, w):
                yield f"sums: the {what} of {shown(model)}: expected {w} of its tensors, found {f}"
    scale = _scale(sums, told, energies)
    if (scale is None) != (sums.scale is None) or not _same(sums.scale or 0.0, scale or 0.0):
        yield f"sums: scale: expected {_said(scale)}, found {_said(sums.scale)}"


def _scale(sums: SumsEntry, told: Summation, energies: Sequence[float]) -> float | None:
    if not told.projects or told.alone:
        return None
    if told.scale is not None:
        return told.scale
    totals = totals_of(sums.tensors.values())
    return mean_norm_scale(energies, totals[-1]) if totals else 0.0


def _said(scale: float | None) -> str:
    return "one for each tensor, or none" if scale is None else repr(scale)


def _first_fault(fact: SummedTensor, n: int) -> str | None:
    """Say how the first model was not taken whole."""
    energy, total, kept = fact.energies[0], fact.totals[0], fact.kept[0]
    tolerance = ROUNDING * math.sqrt(energy) + math.sqrt(n) * SMALLEST
    if abs(math.sqrt(total) - math.sqrt(energy)) > tolerance:
        return f"the first model is taken whole: expected the total {energy}, found {total}"
    if not _same(kept, 1.0 if energy else 0.0) or any(row[0] for row in fact.ranks):
        return "the first model is taken whole, and something of it is said to be lost"
    return None


def _growth_fault(fact: SummedTensor, n: int, sums: SumsEntry, told: Summation) -> str | None:
    """Say where a sum has grown by what nothing that was added allows."""
    if sums.rounded:  # a sum that was read back from rounded weights is another
        return None
    for t in range(1, len(fact.totals)):
        added = fact.kept[t] * fact.energies[t]
        a, p, b = (math.sqrt(x) for x in (fact.totals[t - 1], added, fact.totals[t]))
        least = ROUNDING * (a + p) + math.sqrt(n) * SMALLEST
        if not abs(a - p) - least <= b <= a + p + least:
            return (
                f"model {t + 1} takes the sum's norm from {a:.6g} to {b:.6g}, and what is kept of "
                f"it has only {p:.6g}"
            )
        tilt = _tilt(fact, t, n, told)
        if tilt is not None and abs(b * b - a * a - p * p) > 2 * tilt * a * p + least * (a + p + b):
            return (
                f"model {t + 1} is said to be added at a right angle: expected a total of "
                f"{a * a + p * p:.6g}, found {b * b:.6g}"
            )
    return None


def _tilt(fact: SummedTensor, t: int, n: int, told: Summation) -> float | None:
    """Return the largest cosine that what was added may have to the sum; None for any."""
    if not (told.orthogonal and told.steady) or fact.margin is None or not fact.ranks:
        return None
    if not all(row[t] for row in fact.ranks):  # a map that may have had no live direction
        return None
    # No map of n elements has more than n**0.5 directions.
    return TILT + math.sqrt(math.sqrt(n)) / fact.margin


def _same(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=SAME, abs_tol=0.0)
