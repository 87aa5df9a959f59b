"""Iso-CTS: the directions models share, and those each has for itself, all made equally strong.

Of D = Σ w_i d_i the first c triplets stay; of each w_i d_i the first q of what is foreign to their
outputs, (I - U_c U_cᵀ) w_i d_i, join them. With the bases made orthonormal the merged change is
M = mean(all S) polar(U) polar(V)ᵀ (Marczak et al. 2025, No Task Left Behind, arXiv:2502.04959,
§4.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mdm_kit.maths.changes import Changes, Held, seen
from mdm_kit.maths.complement import Part, without_long, without_short
from mdm_kit.maths.covariance import Change
from mdm_kit.maths.frames import Frame
from mdm_kit.maths.isotropic import summed, weighed
from mdm_kit.maths.singular import Cut, Singular, cut_at, singular_of
from mdm_kit.maths.strips import spans


def own_directions(short: int, n: int, common: float) -> int:
    """Return q: n models' own directions take about 1 - `common` of `short`, and never more.

    The share that is common is rounded down, and the rest rounded to a multiple of n, halves to
    even, as in the authors' code.
    """
    return min(round((short - math.floor(short * common)) / n), short // n)


def common_and_own(
    changes: Changes, weights: Sequence[float], common: float, tail_tol: float | None
) -> Tensor:
    """Return M (out, in) float64, in two passes; zeros where every change is zero.

    What is dead beside the whole of a change is no direction of its own. Raises `NotFiniteError`
    where a change is not finite.
    """
    total = summed(changes, weights)
    n, edges = len(changes), weighed(changes, weights)
    own = own_directions(total.short, n, common)
    whole = cut_at(tail_tol, edges)
    shared = singular_of(total, whole).first(total.short - n * own)
    # The sum makes way for its own vectors, and these in the end for M: there is room for all.
    frame = Frame(total.values, total.short, turned=total.turned)
    frame.add(total, shared)
    left = frame.left
    for change, weight, edge in zip(changes, weights, edges, strict=True):
        rest, size, tilt = _foreign(change, weight, left, shared)
        cut = cut_at(tail_tol, [edge, tilt * whole.least])
        cut = Cut(least=max(cut.share * size, cut.least))
        frame.add(rest, singular_of(rest, cut).first(own))
    return frame.joined(lambda values: values.mean().expand_as(values))


def _foreign(
    change: Change, weight: float, left: Tensor, shared: Singular
) -> tuple[Held, float, float]:
    """Return (I - U_c U_cᵀ) w d, ‖w d‖, and the largest ‖u_rᵀ w d‖ / S_r.

    Noise of the sum turns u_r by itself over S_r, and leaves that much of what d has along u_r.
    """
    rest, lines = Held(change.rows, change.columns), seen(change, weight)
    squares = torch.zeros_like(shared.values)
    # Output features are the longer side's, but for a map that is wider than high.
    if rest.turned:
        _fill(rest, without_short(lines, shared.vectors, squares))
    else:
        _fill(rest, without_long(lines, left, squares))
        # Longer vectors of small values are orthogonal to 1e-9 alone, and what that leaves of d may
        # be as large as what is foreign to them; the second time it is 1e-9 of that.
        _fill(rest, without_long(rest, left))
    energies = [float(lines.lines(*span).square().sum()) for span in spans(lines.long)]
    tilts = (squares.sqrt() / shared.values).tolist()
    return rest, math.sqrt(math.fsum(energies)), max(tilts, default=0.0)


def _fill(rest: Held, parts: Iterator[Part]) -> None:
    for start, part in parts:
        rest.values[start : start + len(part)] = part
