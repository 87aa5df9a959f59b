"""TSV-M: every model's strongest directions, whitened so that none speaks for another.

Of each w_i d_i = U_i S_i V_iᵀ the first r = ⌊min(out, in) / N⌋ singular triplets are kept, one at
least; side by side, U = [U_1 .. U_N] and V the same, their bases are made orthonormal, and a linear
map changes by M = polar(U) diag(S) polar(V)ᵀ (Gargiulo et al. 2025, Task Singular Vectors,
arXiv:2412.00081, Algorithm 1). Tensors that hold no linear map get the mean of the w_i d_i. The
merge is W_base + λ M.

Directions of a change that are zero, or no more than what rounding of the stored weights makes
(`tail_tol`), are none: an adapter would bring noise along, which turns what it learned when the
bases are whitened. Where models brought the same directions, what repeats is left out.

Where not to use: many models on narrow maps, each of which keeps one direction in N; models whose
rth and next singular value are equal, where which of both is kept is chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mdm_kit.maths.joint_costs import task_singular_cost
from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import joint_method
from mdm_kit.methods.joint import JointParams, mean_change, tolerance
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes


def _join(changes: Changes, weights: Sequence[float], tail_tol: float | None) -> Tensor:
    from mdm_kit.maths.task_singular import task_singular  # plans need no torch

    return task_singular(changes, weights, tail_tol)


@joint_method("tsv_m", others=mean_change, params=JointParams, base="origin", order_free=True)
def tsv_m(p: JointParams, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    join = partial(_join, weights=p.weight, tail_tol=tolerance(p.tail_tol))
    return Joining(matrices, join, task_singular_cost, p.lambda_)
