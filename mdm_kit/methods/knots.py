"""KnOTS: changes written in one common basis, where a TIES merge compares like with like.

With [d_1 | .. | d_N] = U S [V_1ᵀ | .. | V_Nᵀ] for each linear map, the V_i are merged as TIES does
(the `density` share of largest elements of each, a sign elected by the weighted sum, what agrees
averaged), and U S takes the result back (Stoica et al. 2024, Model merging with SVD to tie the
Knots, arXiv:2410.19735, §4). With `side: input` the changes stand one below the other and share the
basis of inputs. Tensors that hold no linear map get the mean of the w_i d_i. The merge is
W_base + λ times that.

Trimming goes by map, where the paper's goes over the whole model. Elements as large as the last
that is kept stay, too. Directions that are zero, or no more than what rounding of the stored
weights makes (`tail_tol`), are left out, and elements below 1e-7 of the largest. A map with more
outputs than any hidden layer has, a vocabulary's head, is taken with `side: input`.

Where not to use: full fine-tunes of wide models, for the Gram matrix has as many rows as a map has
outputs (see mdm-kit plan for memory and time; `side: input` is cheaper for wide feed-forward
layers); models too many to hold one map of each in memory, in float64; changes with equal singular
values, whose basis is chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mdm_kit.maths.joint_costs import knots_cost
from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import PerModel, choice, joint_method, per_model, shared
from mdm_kit.methods.joint import JointParams, mean_change, tolerance
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes

MOST_OUTPUTS = 32_768
"""The Gram matrix takes the square of a side: more outputs than this are a vocabulary."""


class Params(JointParams):
    """Parameters of `knots`."""

    weight: PerModel[float] = per_model(default=1.0, help="how much the model counts")
    density: PerModel[float] = per_model(
        default=1.0, minimum=0.0, maximum=1.0, help="share of the change that is kept"
    )
    normalize: bool = shared(default=True, help="divide by the sum of the weights that count")
    side: str = choice(
        default="output",
        options=("output", "input"),
        help="whose directions are the basis that all models share",
    )


def _join(
    changes: Changes,
    weights: Sequence[float],
    densities: Sequence[float],
    *,
    normalize: bool,
    tail_tol: float | None,
) -> Tensor:
    from mdm_kit.maths.knots import knotted  # plans need no torch

    return knotted(changes, weights, densities, normalize=normalize, tail_tol=tail_tol)


@joint_method("knots", others=mean_change, params=Params, base="origin", order_free=True)
def knots(p: Params, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    turns = [p.side == "input" or m.n_out > MOST_OUTPUTS for m in matrices]
    matrices = tuple(m.transposed if t else m for m, t in zip(matrices, turns, strict=True))
    join = partial(
        _join,
        weights=p.weight,
        densities=p.density,
        normalize=p.normalize,
        tail_tol=tolerance(p.tail_tol),
    )
    return Joining(matrices, join, knots_cost, p.lambda_)
