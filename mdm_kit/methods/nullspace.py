"""Null-space filter: models one after another, each where the inputs of those before are not.

S_1 = w_1 d_1 and S_t = S_{t-1} + w_t d_t (I - V Vᵀ) for each linear map, V being the first `rank`
right singular vectors of S_{t-1}, or as many as reach the share `energy` of its squared singular
values: what the merge answers along these inputs no later model changes. It is the filter of
NUFILT alone, the equation as in its authors' code, whose rank is 128 (Qiu et al. 2025, Null-Space
Filtering for Data-Free Continual Model Merging, arXiv:2509.21413); the LoRA they train on top is
not here. Tensors that hold no linear map get the mean of the w_i d_i. The merge is W_base + λ S.

Where not to use: maps whose input is hardly wider than `rank`, where nothing is left for later
models (lower it, or set `energy`); models you can weigh against one another, for the first one
named is taken whole and the others yield; as a way to grow a merge, since nothing is kept and every
model is read again (opcm keeps its sum).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mdm_kit.maths.joint_costs import null_space_cost
from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import joint_method, shared
from mdm_kit.methods.joint import JointParams, mean_change, tolerance
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes


class Params(JointParams):
    """Parameters of `nullspace`."""

    rank: float = shared(
        default=128.0, minimum=0.0, help="most directions of the sum that are protected"
    )
    energy: float = shared(
        default=1.0,
        minimum=0.0,
        maximum=1.0,
        help="share of the squared singular values from which on no more are protected",
    )


def _join(
    changes: Changes,
    weights: Sequence[float],
    rank: int,
    energy: float,
    tail_tol: float | None,
) -> Tensor:
    from mdm_kit.maths.null_space import filtered  # plans need no torch

    return filtered(changes, weights, rank=rank, energy=energy, tail_tol=tail_tol)


@joint_method("nullspace", others=mean_change, params=Params, base="origin", order_free=False)
def nullspace(p: Params, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    join = partial(
        _join, weights=p.weight, rank=int(p.rank), energy=p.energy, tail_tol=tolerance(p.tail_tol)
    )
    return Joining(matrices, join, null_space_cost, p.lambda_)
