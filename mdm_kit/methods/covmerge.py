"""covmerge: the one change that disturbs each model's own directions least, in closed form.

The rows of a model's change d_i to a linear map span the inputs it was tuned on, so
C_i = d_iᵀd_i/|d_i|² stands for their covariance. With A = Σ w_i d_i, P = Σ w_i d_i C_i and
C = Σ w_i C_i the merged change M = A + (P - A C)(C + μ I)⁻¹, μ = `ridge` tr C / n, minimises
Σ w_i |(M - d_i) C_i^½|² + μ |M - A|²: the interference that WUDI lowers by gradient steps
(arXiv:2503.08099), solved. Tensors that are no linear maps get `other` A. The merge is
W_base + λ M.

With `side: output` the columns of d_i stand for what it does to outputs: C_i = d_i d_iᵀ/|d_i|²
acts from the left. On sentence encoders that closed more of the gap than the inputs' side; it is
younger. A map with more outputs than a hidden layer has, a vocabulary's head, keeps the inputs'.

A, P and C are sums over models, taken without rounding between them: any order gives the same
bits, a model is added from its change alone, and taken out again to the bit.

Where not to use: models with different bases; changes to nothing but norms, biases or embeddings,
which it only adds up.
"""

from __future__ import annotations

from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import (
    MethodParams,
    Patterns,
    PerModel,
    choice,
    matrix_method,
    patterns,
    per_model,
    shared,
)
from mdm_kit.methods.rules import Covarying

MOST_OUTPUTS = 32_768
"""C takes the square of a side: more outputs than this are a vocabulary."""


class Params(MethodParams):
    """Parameters of `covmerge`."""

    weight: PerModel[float] = per_model(
        default=1.0, minimum=0.0, help="how much the model counts in the sums A, P and C"
    )
    ridge: float = shared(
        default=1.0, minimum=0.0, help="pull to the plain sum A, as a share of C's mean eigenvalue"
    )
    side: str = choice(
        default="input",
        options=("input", "output"),
        help="whose directions a change is told apart by",
    )
    other: float = shared(
        default=0.3, help="factor on the summed changes of tensors that are no linear maps"
    )
    lambda_: float = shared(default=1.0, help="multiplies the merged change")
    project: Patterns = patterns(
        default=(), help="tensors to solve, in place of all linear weights"
    )


@matrix_method("covmerge", params=Params, base="origin", order_free=True, undo=("rebuild", "exact"))
def covmerge(p: Params, matrices: tuple[Matrix, ...]) -> Covarying:
    """Return the rule of a tensor that holds these linear maps."""
    if p.side == "output":
        matrices = tuple(m.transposed if m.n_out <= MOST_OUTPUTS else m for m in matrices)
    return Covarying(matrices, p.weight, p.ridge, p.other, p.lambda_)
