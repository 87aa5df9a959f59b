"""MDM-OC: what each model changed, made orthogonal, then added with one coefficient each.

With deltas d_i = W_i - W_base, Gram-Schmidt in the order of the recipe gives components
e_j = d_j - Σ_{i<j} ⟨e_i, d_j⟩/⟨e_i, e_i⟩ e_i, and the merge is W_base + λ Σ α_i e_i (Modular Delta
Merging with Orthogonal Constraints, arXiv:2507.20997). Components are not normalised: α = 1 adds
all that is new in a model. The sum never leaves the span of the deltas, so it is folded from them
with the weights w = Aᵀ α, A being the orthogonalisation as an N x N matrix.

`scope` says where inner products are taken: in each `tensor` alone; in a `layer` together (tensors
that share the name up to the layer's number; others alone); or `global`. `lowdin` treats all models
alike, whatever their order; `none` is task arithmetic.

Where not to use: many models at α = 1, whose novelties add up until the result forgets the base
(0.4 each was best for eight); models with different bases; early models you want to keep whole when
later ones point the other way, since Gram-Schmidt gives what is shared to whoever comes first.
"""

from __future__ import annotations

from mdm_kit.maths.orthogonal import ORTHOGONALISATIONS, Basis, Gram
from mdm_kit.methods.contract import (
    MethodParams,
    PerModel,
    choice,
    fold_method,
    per_model,
    shared,
)


class Params(MethodParams):
    """Parameters of `mdm_oc`."""

    weight: PerModel[float] = per_model(
        default=1.0, help="α, the coefficient of the model's orthogonal component"
    )
    scope: str = choice(
        default="tensor",
        options=("tensor", "layer", "global"),
        help="where inner products are taken",
    )
    orthogonalize: str = choice(
        default="gram_schmidt",
        options=tuple(ORTHOGONALISATIONS),
        help="how deltas are made orthogonal",
    )
    lambda_: float = shared(default=1.0, help="multiplies the whole merged change")

    def fine(self) -> bool:
        """Löwdin divides near copies by their tiny difference, which float32 deltas blur."""
        return self.orthogonalize == "lowdin"


def solve(gram: Gram, p: Params) -> Basis:
    """Return the orthogonalisation of a group of tensors from its Gram matrix (k, k)."""
    return ORTHOGONALISATIONS[p.orthogonalize](gram)


@fold_method(
    "mdm_oc",
    params=Params,
    base="origin",
    solve=solve,
    order_free=False,
    undo=("rebuild", "exact", "subtract"),
)
def mdm_oc(p: Params, basis: Basis) -> list[float]:
    """Return w = λ Aᵀ α: what each model's delta is multiplied by, k numbers."""
    return [p.lambda_ * w for w in basis.weights(p.weight)]
