"""SVC: a merge calibrated, its singular values lessened where models were counted over and over.

The first model is the merge, D = W_1 - W_base = U S Vᵀ, the others are those it was merged from, in
a recipe of several documents the earlier document's name and then its models. With
t_ri = <S_r v_rᵀ, u_rᵀ d_i> / |u_rᵀ d_i|² each linear map changes by U diag(γ S) Vᵀ, where
γ_r = N / Σ_i max(floor, t_ri) (Li et al. 2026, When Shared Knowledge Hurts, arXiv:2602.05536, Eq. 4
and 8, Algorithm 1; `floor` is their α). Tensors that hold no linear map keep the merge's change.
The result is W_base + λ times that.

A model without a part in u_r has no t_ri and counts as 1: neither too much of it is there, nor too
little. Where `floor` is below 1, directions in which models cancel are made stronger, up to
1 / floor times. What of the merge is rounding of its stored weights (`tail_tol`) is left out.

Where not to use: a first model that is no merge of the others; after iso_c or iso_cts, whose equal
singular values leave u_r to chance; on a merge that is no document of the same recipe, if a model
may have to be taken out: it leaves the list, and stays in the first model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from mdm_kit.maths.joint_costs import calibration_cost
from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import (
    MethodParams,
    Patterns,
    joint_method,
    number_or,
    patterns,
    shared,
)
from mdm_kit.methods.joint import TAIL_TOL, tolerance
from mdm_kit.methods.rules import Joining

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes


class Params(MethodParams):
    """Parameters of `svc`."""

    absent: ClassVar[Mapping[str, str]] = {
        "weight": "the models were weighed when they were merged; what is calibrated is the merge"
    }

    floor: float = shared(
        default=0.1,
        minimum=0.001,
        help="least that a model counts in a direction; at 1 no direction is made stronger",
    )
    lambda_: float = shared(default=1.0, help="multiplies the calibrated change")
    project: Patterns = patterns(
        default=(), help="tensors to calibrate, in place of all linear weights"
    )
    tail_tol: float | str = number_or(default="auto", minimum=0.0, maximum=1.0, help=TAIL_TOL)


def _first_change(p: Params, n: int) -> list[float]:
    return [p.lambda_] + [0.0] * (n - 1)


def _join(changes: Changes, floor: float, tail_tol: float | None) -> Tensor:
    from mdm_kit.maths.calibration import calibrated  # plans need no torch

    return calibrated(changes, floor, tail_tol)


@joint_method(
    "svc", others=_first_change, params=Params, base="origin", order_free=False, min_models=2
)
def svc(p: Params, matrices: tuple[Matrix, ...]) -> Joining:
    """Return the rule of a tensor that holds these linear maps."""
    join = partial(_join, floor=p.floor, tail_tol=tolerance(p.tail_tol))
    return Joining(matrices, join, calibration_cost, p.lambda_)
