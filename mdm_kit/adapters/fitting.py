"""A fine-tune and its base, opened and compared by their headers before a weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mdm_kit.errors import FindingsError
from mdm_kit.planner.agreement import faults, misfits
from mdm_kit.planner.matrices import is_tied_copy
from mdm_kit.planner.survey import Survey, Surveyed, surveyed
from mdm_kit.sources import Source
from mdm_kit.words import EXIT_CODES, Finding, Level, TensorInfo, shown

_RESIZED = (
    "a LoRA is added to weights of the same shape: give the base the model's number of rows first"
)
_OTHER_TENSORS = "name the model that this one was tuned from, saved by the same kind of tool"


@dataclass(frozen=True, slots=True)
class Fit:
    """Two models with the same tensors, by the same names; `notes` are worth knowing."""

    model: Surveyed
    base: Surveyed
    notes: tuple[Finding, ...]

    @property
    def pairs(self) -> tuple[tuple[TensorInfo, TensorInfo], ...]:
        """Each tensor of the model and the base's, in the base's order."""
        own = self.model.checkpoint.tensors
        return tuple((own[name], info) for name, info in self.base.checkpoint.tensors.items())


def fitted(model: Source, base: Source) -> Fit:
    """Return a model beside its base; neither is closed.

    Raises `FindingsError` with everything that keeps them from being compared, and what reading
    headers raises.
    """
    tuned = _without_copies(surveyed("model", model))
    plain = _without_copies(surveyed("base", base))
    survey = Survey((tuned,), plain, ())
    found = [*faults(survey), *misfits(survey, {tuned.name: _RESIZED}, _OTHER_TENSORS)]
    errors = [f for f in found if f.level is Level.ERROR]
    if errors:
        raise FindingsError("\n".join(map(told, found)), max(EXIT_CODES[f.kind] for f in errors))
    return Fit(tuned, plain, tuple(found))


def told(finding: Finding) -> str:
    """Return a finding as a line, and its hint as another."""
    hint = f"\n    hint: {shown(finding.hint, 1000)}" if finding.hint else ""
    return f"{finding.level.value}: {shown(finding.message, 1000)}{hint}"


def _without_copies(found: Surveyed) -> Surveyed:
    """Return a model without heads that repeat the embedding they are tied to."""
    tensors: Mapping[str, TensorInfo] = found.checkpoint.tensors
    kept = {n: t for n, t in tensors.items() if not is_tied_copy(n, tensors, found.config)}
    return replace(found, checkpoint=replace(found.checkpoint, tensors=kept))
