"""Iso-C: the sum of all changes, with every direction made equally strong.

With D = Σ w_i d_i = U S Vᵀ each linear map changes by M = mean(S) U Vᵀ, so that directions few
models share are no weaker than those all of them push (Marczak et al. 2025, No Task Left Behind,
arXiv:2502.04959, §4.1). Tensors that hold no linear map get the mean of the w_i d_i. The merge is
W_base + λ M; the authors tune λ, which lay between 1 and 1.5.

Directions in which D is zero, or no more than what rounding of the stored weights makes
(`tail_tol`), stay zero and do not count in the mean: the authors' code makes them, too, as strong
as the others.

Where not to use: one model, whose own spectrum goes; changes hardly larger than the rounding of
their weights, of which much is noise that grows with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mdm_kit.maths.joint_costs import isotropic_cost
from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import joint_method
from mdm_kit.methods.joint import JointParams, mean_change, tolerance
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes


def _join(changes: Changes, weights: Sequence[float], tail_tol: float | None) -> Tensor:
    from mdm_kit.maths.isotropic import isotropic  # plans need no torch

    return isotropic(changes, weights, tail_tol)


@joint_method("iso_c", others=mean_change, params=JointParams, base="origin", order_free=True)
def iso_c(p: JointParams, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    join = partial(_join, weights=p.weight, tail_tol=tolerance(p.tail_tol))
    return Joining(matrices, join, isotropic_cost, p.lambda_)
