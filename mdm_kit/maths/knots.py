"""KnOTS: changes written in one common basis, where a TIES merge compares like with like.

[d_1 | .. | d_N] = U S [V_1ᵀ | .. | V_Nᵀ]; the V_i are trimmed, elected and averaged element by
element, and U S takes the result back (Stoica et al. 2024, Model merging with SVD to tie the Knots,
arXiv:2410.19735). Directions that are zero, or rounding, are left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mdm_kit.maths.changes import Changes, Columns
from mdm_kit.maths.singular import cut_at, singular_of, write_left
from mdm_kit.maths.spectrum import NEGLIGIBLE
from mdm_kit.maths.strips import spans


def knotted(
    changes: Changes,
    weights: Sequence[float],
    densities: Sequence[float],
    *,
    normalize: bool,
    tail_tol: float | None,
) -> Tensor:
    """Return U S times the merged V (out, in) float64, in one pass, with all changes in memory.

    Raises `NotFiniteError` where a change is not finite.
    """
    stacked, cut = _stacked(changes), cut_at(tail_tol, changes.edges)
    n_out = stacked.shape[1]
    n_in = len(stacked) // len(changes)
    if len(stacked) >= n_out:
        found = singular_of(Columns(stacked), cut)
        own = stacked[:, : len(found.values)]  # the changes make way for what they are in the basis
        write_left(Columns(stacked), found, own)
        common = found.vectors.mT
    else:
        found = singular_of(Columns(stacked.mT), cut)
        own = found.vectors.mT
        common = torch.empty(n_out, len(found.values), dtype=torch.float64)
        write_left(Columns(stacked.mT), found, common)
    parts = [own[first:last] for first, last in pairwise(range(0, len(own) + 1, n_in))]
    merged = elected(parts, weights, densities, normalize=normalize)
    return (common * found.values) @ merged.mT


def _stacked(changes: Changes) -> Tensor:
    """Return all changes transposed, one below the other: (N in, out) float64."""
    stacked: Tensor | None = None
    for i, change in enumerate(changes):
        if stacked is None:
            shape = (len(changes) * change.columns, change.rows)
            stacked = torch.empty(shape, dtype=torch.float64)
        here = stacked[i * change.columns : (i + 1) * change.columns]
        for start, count in spans(change.rows):
            here[:, start : start + count] = change.lines(start, count).mT
    assert stacked is not None  # noqa: S101 -- there is a model
    return stacked


def elected(
    parts: Sequence[Tensor],
    weights: Sequence[float],
    densities: Sequence[float],
    *,
    normalize: bool,
) -> Tensor:
    """Return the TIES merge of tensors of one shape: trim, elect a sign, add or average.

    Of each the share `density` of largest magnitudes stays, with all that are equal to the last of
    them, but nothing below 1e-7 of the largest of all: where a model changed nothing rounding would
    have a say in the divisor. A sum of zero elects the positive sign; a divisor of zero is 1.
    """
    dust = NEGLIGIBLE * max((float(part.abs().max()) for part in parts if part.numel()), default=0)
    least = [max(dust, _least_kept(p, d)) for p, d in zip(parts, densities, strict=True)]
    trimmed = list(zip(parts, weights, least, strict=True))
    elected_sum = torch.zeros_like(parts[0])
    for part, weight, edge in trimmed:
        elected_sum.add_(part * (part.abs() >= edge), alpha=weight)
    positive = elected_sum >= 0
    total, divisor = elected_sum.zero_(), torch.zeros_like(parts[0])
    for part, weight, edge in trimmed:
        weighed = part * (part.abs() >= edge) * weight
        agrees = torch.where(positive, weighed > 0, weighed < 0)
        total.add_(weighed * agrees)
        divisor.add_(agrees, alpha=weight)
    if not normalize:
        return total
    return total.div_(torch.where(divisor == 0, 1.0, divisor))


def _least_kept(part: Tensor, density: float) -> float:
    """Return the smallest magnitude that is kept, infinity for none."""
    n = part.numel()
    if density >= 1 or not n:
        return 0.0
    if density <= 0:
        return float("inf")
    return float(part.abs().flatten().kthvalue(n - max(1, int(density * n)) + 1).values)
