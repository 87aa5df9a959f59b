"""The null-space filter: a change joins a sum where the sum's strongest inputs are not.

S_1 = w_1 d_1 and S_t = S_{t-1} + w_t d_t (I - V Vᵀ), V being right singular vectors of S_{t-1}: the
first `rank`, or fewer that reach a share of its squared singular values. What S_{t-1} answers to
inputs along V stays what it was (Qiu et al. 2025, arXiv:2509.21413, the filter alone).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdm_kit.maths.changes import Changes, Held, seen
from mdm_kit.maths.complement import without_long, without_short
from mdm_kit.maths.isotropic import weighed
from mdm_kit.maths.singular import Singular, cut_at, singular_of, write_left


def filtered(
    changes: Changes,
    weights: Sequence[float],
    *,
    rank: int,
    energy: float,
    tail_tol: float | None,
) -> Tensor:
    """Return S_T (out, in) float64, in one pass.

    Raises `NotFiniteError` where a sum that another change joins is not finite.
    """
    total: Held | None = None
    edges = weighed(changes, weights)
    for i, (change, weight) in enumerate(zip(changes, weights, strict=True)):
        lines = seen(change, weight)
        if total is None:
            total = Held(change.rows, change.columns)
            total.add(lines)
            continue
        kept = _protected(singular_of(total, cut_at(tail_tol, edges[:i])), rank, energy)
        if total.turned:  # then input features are the longer side's
            left = torch.empty(total.long, len(kept.values), dtype=torch.float64)
            write_left(total, kept, left)
            parts = without_long(lines, left)
        else:
            parts = without_short(lines, kept.vectors)
        for start, part in parts:
            total.values[start : start + len(part)] += part
    assert total is not None  # noqa: S101 -- there is a model
    return total.matrix()


def _protected(found: Singular, rank: int, energy: float) -> Singular:
    """Return the first triplets, up to `rank`, until their squares reach the share `energy`."""
    squares = found.values.square()
    before = (squares.cumsum(0) - squares) / squares.sum()
    enough = int(torch.count_nonzero(before < energy)) if energy < 1 else len(squares)
    return found.first(min(rank, enough))
