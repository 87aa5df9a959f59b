"""Changes that are products of thin factors, as adapters are: their sums, and OPCM's step.

With S = L R of rank r_S and d = B A of rank r, all that is projected lies in what the factors span:
after a QR of S's factors the singular value decomposition is one of r_S × r_S, and P(d) and the new
sum are factors of rank r_S + r. No matrix of the tensor's own shape is made, and the time is
O((m + n)(r_S + r)²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.maths.orthogonal import Gram
from mdm_kit.maths.spectrum import Split, split


@dataclass(frozen=True, slots=True)
class Factors:
    """The matrix `left` @ `right`: (m, r) and (r, n), float64."""

    left: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """What the factors' shapes allow; the matrix may have less."""
        return self.left.shape[1]

    def dense(self) -> Tensor:
        """Return the matrix (m, n)."""
        return self.left @ self.right

    def squared_norm(self) -> float:
        """Return ‖left right‖², which rounding never makes negative."""
        return max(0.0, inner(self, self))

    def to(self, dtype: torch.dtype) -> Factors:
        """Return the factors rounded to another dtype, contiguous."""
        return Factors(self.left.to(dtype).contiguous(), self.right.to(dtype).contiguous())


def inner(one: Factors, other: Factors) -> float:
    """Return Σ a_ij b_ij of two products (m, n): the sum of (LᵀL') ∘ (R R'ᵀ), of their ranks' size.

    Its bits depend on the two alone.
    """
    return float(((one.left.mT @ other.left) * (one.right @ other.right.mT)).sum())


def gram_of(changes: Sequence[Factors]) -> Gram:
    """Return the inner products of changes, pair by pair."""
    return Gram(tuple(inner(one, two) for i, one in enumerate(changes) for two in changes[: i + 1]))


def weighted_sum(changes: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return Σ w_i d_i, whose rank is the sum of the ranks: factors side by side, exactly."""
    pairs = zip(changes, weights, strict=True)
    return side_by_side([Factors(weight * d.left, d.right) for d, weight in pairs])


def side_by_side(changes: Sequence[Factors], like: Factors | None = None) -> Factors:
    """Return the sum of changes, exactly; of none of them, zeros of rank 0 `like` another's."""
    if not changes and like is not None:
        return Factors(like.left[:, :0], like.right[:0])
    return Factors(torch.cat([d.left for d in changes], 1), torch.cat([d.right for d in changes]))


@dataclass(frozen=True, slots=True)
class LowRankStep:
    """`kept` = P(d) and `total` = S + P(d), each of the ranks of S and d together at most."""

    kept: Factors
    total: Factors
    cut: Split


def add_low_rank(
    total: Factors, change: Factors, *, alpha: float, variant: str, tail_tol: float | None
) -> LowRankStep:
    """Add what is new in `change` to `total`; of the latter nothing but zeros is rank 0 as well.

    See `projection` for the variants and `split` for `alpha` and `tail_tol`. Factors are never
    rounded to float32, as a dense sum is.
    """
    u, sigma, vt = _thin_svd(total)
    cut = split(sigma, alpha=alpha, tail_tol=tail_tol, noise_edge=0.0)
    k, live = cut.rank, cut.live
    b, a = change.left, change.right
    taken = torch.zeros(len(sigma), len(sigma), dtype=torch.float64, device=sigma.device)
    h = (u.mT @ b) @ (a @ vt.mT)
    if variant != "legacy":
        tail = torch.arange(k, live, device=sigma.device)
        taken[tail, tail] = h[tail, tail]
    if variant == "paper":
        b = b - u[:, :k] @ (u[:, :k].mT @ b)
        a = a - (a @ vt[:k].mT) @ vt[:k]
    else:
        taken[:k, :k] = h[:k, :k]
    kept = Factors(torch.cat((b, u), 1), torch.cat((a, -taken @ vt)))
    left = torch.diag(sigma) - taken
    return LowRankStep(kept, Factors(kept.left, torch.cat((a, left @ vt))), cut)


def _thin_svd(factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (m, r), σ (r,) and Vᵀ (r, n) of the matrix, r <= its rank and both its sides."""
    left, core_left = torch.linalg.qr(factors.left)
    right, core_right = torch.linalg.qr(factors.right.mT)
    u, sigma, vt = torch.linalg.svd(core_left @ core_right.mT, full_matrices=False)
    return left @ u, sigma, vt @ right.mT
