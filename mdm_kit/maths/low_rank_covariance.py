"""covmerge of changes that are products of thin factors: all of it in the space they span.

With d_i = B_i A_i and Q an orthonormal basis (R, in) of all A_i's rows, A_i = a_i Q, and C + μ I is
Qᵀ(K + μ I)Q on the span and μ I beside it, K = Σ w_i a_iᵀ(B_iᵀB_i)a_i / ‖d_i‖². Both sums of M lie
in the span, so M = (A_Q + (P_Q - A_Q K)(K + μ I)⁻¹) Q with P_Q and A_Q (out, R), and no in × in
matrix is made. See `covariance` for what M is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mdm_kit.maths.covariance_costs import NOISE
from mdm_kit.maths.low_rank import Factors

_LEAST_ENERGY = 2.0**-900
"""A smaller ‖d‖², whose inverse may leave float64's range, counts as none."""


def merged_low_rank(changes: Sequence[Factors], weights: Sequence[float], ridge: float) -> Factors:
    """Return M (out, in) of the changes, of their ranks together at most, float64."""
    n_out, n_in = changes[0].left.shape[0], changes[0].right.shape[1]
    pairs = zip(changes, weights, strict=True)
    live = [(d, w, e) for d, w in pairs if (e := d.squared_norm()) > _LEAST_ENERGY]
    if not live:
        return Factors(torch.zeros(n_out, 0).double(), torch.zeros(0, n_in).double())
    basis = torch.linalg.qr(torch.cat([d.right for d, _, _ in live]).mT)[0].mT  # (R, in)
    size = len(basis)
    covariance = basis.new_zeros(size, size)
    sums, products = basis.new_zeros(n_out, size), basis.new_zeros(n_out, size)
    for d, weight, energy in live:
        own = d.right @ basis.mT  # (r, R)
        covered = own.mT @ (d.left.mT @ d.left) @ own / energy
        change = d.left @ own  # (out, R)
        covariance += weight * covered
        sums += weight * change
        products += weight * (change @ covered)
    trace = sum(w for _, w, _ in live)
    values, vectors = torch.linalg.eigh(covariance)
    # Where C is zero, so is P - A C: nothing is lost with directions that are rounding.
    dead = values <= NOISE * math.sqrt(size) * max(trace, 1.0)
    inverse = torch.where(dead, 0.0, 1.0 / (values + ridge * trace / n_in))
    along = ((products @ vectors) - (sums @ vectors) * values) * inverse
    return Factors(sums + along @ vectors.mT, basis)
