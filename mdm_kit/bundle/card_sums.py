"""What a card says of a merge that is made of sums: each model's part, and how one more joins."""

from __future__ import annotations

from mdm_kit.bundle.card_text import cell, table
from mdm_kit.ledger.entries import SumsEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.sums import UNSURE, kept_shares, smallest_margin
from mdm_kit.ledger.ways import JOINS, joining, merged_models


def sums_section(manifest: Manifest) -> str:
    """Return the section about the models' parts, empty for a merge that is no sum."""
    sums = manifest.sums
    models = merged_models(manifest)
    if sums is None or not sums.norms:
        return ""
    columns = ["model", "norm"]
    rows = [[n, f"{norm:.4g}"] for n, norm in zip(models, sums.norms, strict=True)]
    said = ["The norm is that of all a model changed of the base."]
    if sums.lambdas:
        columns += ["share kept", "λ"]
        shares = zip(kept_shares(sums.tensors.values()), sums.lambdas, strict=True)
        for row, (share, factor) in zip(rows, shares, strict=True):
            row += [f"{share:.1%}", f"{factor:.4g}"]
        said.append(
            "The share is what was kept of its energy (its square) when it was merged: the rest "
            "lay along the models before it. λ is the norm of their sum over the mean of their own "
            "norms."
        )
    said += _notes(sums)
    return (
        f"## What each model adds\n\n{table(columns, rows)}\n\n{' '.join(said)}\n\n"
        f"One more model {JOINS[joining(manifest)]}."
    )


def _notes(sums: SumsEntry) -> list[str]:
    found = []
    smallest = smallest_margin(sums.tensors)
    if smallest is not None and smallest[1] < UNSURE:
        found.append(
            f"The smallest singular value that counted lay {smallest[1]:.3g} times above "
            f"the tolerance, in {cell(smallest[0])}: under {UNSURE} another machine may count "
            "otherwise."
        )
    if sums.rounded:
        who = "model holds" if sums.rounded == 1 else f"{sums.rounded} models hold"
        found.append(
            f"What the first {who} was read back from rounded weights, with an error of about "
            f"{sums.rounding:.2%} of the sum."
        )
    return found
