"""OPCM: models merged one after another, each change projected away from what is merged already.

With d_t = W_t - W_base the merged change grows by S_t = S_{t-1} + P(d_t; S_{t-1}), where P takes
from the linear maps of d_t what lies along the singular pairs of S_{t-1}, and the merge is
W_base + λ c S_T with c the mean norm of the changes over the norm of S_T (Tang et al. 2025, Merging
Models on the Fly Without Retraining, arXiv:2501.09522). Every other tensor is summed as it is. The
sum needs room for two tensors, whatever the number of models.

`variant` tells three published readings apart: `reference`, the authors' code of today (the leading
k x k block and the diagonal go); `legacy`, their first (the diagonal outside the block stays);
`paper`, the printed equation (whatever touches a leading direction on either side goes).

Where not to use: models you can merge all at once, where covmerge keeps more of each; few models at
`scale: norm_mean`, which is timid (try `lambda` 1.5 to 2); as a way to forget, since only the model
merged last can be taken out without merging those after it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import (
    MethodParams,
    Patterns,
    choice,
    matrix_method,
    number_or,
    patterns,
    shared,
)
from mdm_kit.methods.rules import Projecting


class Params(MethodParams):
    """Parameters of `opcm`."""

    absent: ClassVar[Mapping[str, str]] = {
        "weight": "each model's change is taken whole and projected; lambda scales the sum of all"
    }

    alpha: float = shared(
        default=0.5,
        minimum=0.0,
        help="share of the singular values whose block is protected; from 1 on all of them",
    )
    variant: str = choice(
        default="reference",
        options=("reference", "legacy", "paper"),
        help="what a change loses: see above",
    )
    scale: float | str = number_or(
        default="norm_mean", help="what the sum is multiplied by; a number needs no second pass"
    )
    scale_scope: str = choice(
        default="model",
        options=("model", "tensor"),
        help="where norms are taken for scale: norm_mean",
    )
    lambda_: float = shared(default=1.0, help="multiplies the merged change after scale")
    tail_tol: float | str = number_or(
        default="auto",
        minimum=0.0,
        maximum=1.0,
        help="singular values below this share of the largest are none",
    )
    project: Patterns = patterns(
        default=(), help="tensors to project, in place of all linear weights"
    )


@matrix_method("opcm", params=Params, base="origin", order_free=False)
def opcm(p: Params, matrices: tuple[Matrix, ...]) -> Projecting:
    """Return the rule of a tensor that holds these linear maps."""
    return Projecting(
        matrices=matrices,
        alpha=p.alpha,
        variant=p.variant,
        tail_tol=None if isinstance(p.tail_tol, str) else p.tail_tol,
        scale=None if isinstance(p.scale, str) else p.scale,
        alone=p.scale_scope == "tensor",
        factor=p.lambda_,
    )
