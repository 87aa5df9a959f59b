"""TSV-M: every model's strongest directions, whitened so that none speaks for another.

Of each w_i d_i = U_i S_i V_iᵀ the first r = ⌊min(out, in) / N⌋ singular triplets are kept, one at
least; side by side, U = [U_1 .. U_N] and V the same, their bases are made orthonormal, and a linear
map changes by M = polar(U) diag(S) polar(V)ᵀ (Gargiulo et al. 2025, Task Singular Vectors,
arXiv:2412.00081, Algorithm 1). Tensors that hold no linear map get the mean of the w_i d_i. The
merge is W_base + λ M.

Directions below 1e-7 of a change's largest are none; where models brought the same ones, so that
the bases have less than full rank, what repeats is left out.

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
from mdm_kit.methods.joint import JointParams, mean_change
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes


def _join(changes: Changes, weights: Sequence[float]) -> Tensor:
    from mdm_kit.maths.task_singular import task_singular  # plans need no torch

    return task_singular(changes, weights)


@joint_method("tsv_m", others=mean_change, params=JointParams, base="origin", order_free=True)
def tsv_m(p: JointParams, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    return Joining(matrices, partial(_join, weights=p.weight), task_singular_cost, p.lambda_)
