"""What a removal leaves of a model, from inner products and weights alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mdm_kit.ledger.entries import Mode
from mdm_kit.maths.orthogonal import Gram, fsum

Weights = Sequence[float]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """How one model can be taken out of a merge.

    `modes` are the ways there are, and `needs` says for each which models must be had for it, the
    base among them, that the merge does not keep. `leak` and `residue` (see `Certificate`) are what
    `subtract` would leave of it, None where it is no way or nobody can say.
    """

    model: str
    modes: tuple[Mode, ...]
    needs: Mapping[Mode, Sequence[str]] = field(default_factory=dict)
    leak: float | None = None
    residue: float | None = None


@dataclass(frozen=True, slots=True)
class Remade:
    """What making a merge again has shown.

    `interference` is the largest cosine that two orthogonal components really have, `bound` what
    rounding allows it to be; None where components are not made orthogonal.
    """

    faults: tuple[str, ...]
    interference: float | None = None
    bound: float | None = None


def leak(
    grams: Mapping[str, Gram], found: Mapping[str, Weights], wanted: Mapping[str, Weights]
) -> float:
    """Return how far weights `found` are from `wanted`, as a share of the change wanted.

    sqrt(Σ dwᵀ G dw / Σ wᵀ G w) over the tensors of `grams`, with one weight per model of the Gram
    matrices, 0 for one that is not there; 0 where nothing is wanted.
    """
    away, size = [], []
    for name, gram in grams.items():
        difference = [f - w for f, w in zip(found[name], wanted[name], strict=True)]
        away.append(gram.energy(difference))
        size.append(gram.energy(wanted[name]))
    whole = fsum(size)
    return math.sqrt(fsum(away) / whole) if whole > 0 else 0.0


def residue(weights: Mapping[str, Weights], i: int) -> float:
    """Return the largest magnitude of any tensor's weight for model i: r of its raw change."""
    return max((abs(w[i]) for w in weights.values()), default=0.0)
