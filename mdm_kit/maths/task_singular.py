"""TSV-M: every model's strongest directions, whitened so that none speaks for another.

Of w_i d_i = U_i S_i V_iᵀ the first r = ⌊min(out, in) / N⌋ triplets are kept, at least one; side by
side their bases are made orthonormal, and M = polar(U) diag(S) polar(V)ᵀ (Gargiulo et al. 2025,
Task Singular Vectors, arXiv:2412.00081, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdm_kit.maths.changes import Changes, seen
from mdm_kit.maths.frames import Frame
from mdm_kit.maths.isotropic import weighed
from mdm_kit.maths.singular import cut_at, singular_of


def task_singular(changes: Changes, weights: Sequence[float], tail_tol: float | None) -> Tensor:
    """Return M (out, in) float64, in one pass; a change with fewer live directions brings those.

    Raises `NotFiniteError` where a change is not finite.
    """
    n, frame = len(changes), None
    edges = weighed(changes, weights)
    for change, weight, edge in zip(changes, weights, edges, strict=True):
        lines = seen(change, weight)
        rank = max(1, lines.short // n)
        if frame is None:
            room = torch.empty(lines.long, max(lines.short, rank * n), dtype=torch.float64)
            frame = Frame(room, lines.short, turned=change.rows < change.columns)
        frame.add(lines, singular_of(lines, cut_at(tail_tol, [edge])).first(rank))
    assert frame is not None  # noqa: S101 -- there is a model
    return frame.joined(lambda values: values)
