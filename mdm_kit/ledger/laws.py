"""What must hold among the numbers of a ledger, whatever the models."""

from __future__ import annotations

import math

from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.products import Products
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.words import shown

ROUNDING = 1e-9
"""What the sums behind inner products may lose, relative to the norms; they lose 1e-14 or so."""


def ledger_faults(manifest: Manifest, products: Products) -> list[str]:
    """Return where inner products are none, or belong to other models or tensors."""
    entry = manifest.ledger
    if entry is None:
        return []
    faults = []
    models = [s.name for s in manifest.sources if s.role == "model"]
    # Those of the last of several documents are not told apart here.
    if manifest.stages is None and entry.models != models:
        faults.append(
            f"ledger: its models are {', '.join(map(shown, entry.models))}, those of the merge "
            f"{', '.join(map(shown, models))}"
        )
    strangers = [n for n in entry.tensors if n not in manifest.tensors]
    faults += [f"ledger: {shown(name)} is no tensor of the merge" for name in strangers]
    for grams in (products.plain, products.exact):
        faults += [
            f"ledger: the inner products of {shown(name)} {fault}"
            for name, gram in grams.items()
            if (fault := _impossible(gram))
        ]
    return faults


def _impossible(gram: Gram) -> str | None:
    """Say why these cannot be inner products of real vectors; None if they can."""
    if not all(map(math.isfinite, gram.triangle)):
        return "are not finite"
    norms = [gram.at(i, i) for i in range(gram.n)]
    if min(norms, default=0.0) < 0:
        return "make a change's squared norm negative"
    for i in range(gram.n):
        for j in range(i):
            bound = math.sqrt(norms[i]) * math.sqrt(norms[j])
            if abs(gram.at(i, j)) > bound * (1 + ROUNDING):
                return "are larger than the norms allow (Cauchy-Schwarz)"
    return None
