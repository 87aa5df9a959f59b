"""Iso-CTS: what models share and what each has for itself, every direction made equally strong.

Of D = Σ w_i d_i = U S Vᵀ the first c triplets are common, about `common` of the shorter side n; of
what of each w_i d_i is foreign to their outputs, (I - U_c U_cᵀ) w_i d_i, the first q = (n - c) / N
join them. With all bases made orthonormal a linear map changes by M = mean(S) polar(U) polar(V)ᵀ
over all that was kept (Marczak et al. 2025, No Task Left Behind, arXiv:2502.04959, §4.2). Tensors
that hold no linear map get the mean of the w_i d_i. The merge is W_base + λ M; the authors tune λ.

q is rounded, halves to even, and never so large that N q exceeds n. Directions that are zero, or no
more than what rounding of the stored weights makes (`tail_tol`), are none and do not count in the
mean, as they do in the authors' code. Every model is read twice.

Where not to use: one model, whose own spectrum goes; few models, for which iso_c does as well in
a third of the time; changes hardly larger than the rounding of their weights, of which much is
noise that grows with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mdm_kit.maths.joint_costs import common_space_cost
from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import joint_method, shared
from mdm_kit.methods.joint import JointParams, mean_change, tolerance
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes


class Params(JointParams):
    """Parameters of `iso_cts`."""

    common: float = shared(
        default=0.8, minimum=0.0, maximum=1.0, help="share of the directions that is common"
    )


def _join(
    changes: Changes, weights: Sequence[float], common: float, tail_tol: float | None
) -> Tensor:
    from mdm_kit.maths.common_space import common_and_own  # plans need no torch

    return common_and_own(changes, weights, common, tail_tol)


@joint_method("iso_cts", others=mean_change, params=Params, base="origin", order_free=True)
def iso_cts(p: Params, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    join = partial(_join, weights=p.weight, common=p.common, tail_tol=tolerance(p.tail_tol))
    return Joining(matrices, join, common_space_cost, p.lambda_, passes=2)
