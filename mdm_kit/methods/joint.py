"""What joint methods share: their weights, what counts as zero, the mean where there is no map."""

from __future__ import annotations

from mdm_kit.methods.contract import (
    MethodParams,
    Patterns,
    PerModel,
    number_or,
    patterns,
    per_model,
    shared,
)

TAIL_TOL = (
    "singular values below this share of the largest are none; auto: below what rounding of the "
    "stored weights makes"
)


class JointParams(MethodParams):
    """Parameters of methods that weigh every change before they join them."""

    weight: PerModel[float] = per_model(
        default=1.0, help="what the model's change is multiplied by at first"
    )
    lambda_: float = shared(default=1.0, help="multiplies the merged change")
    project: Patterns = patterns(default=(), help="tensors to join, in place of all linear weights")
    tail_tol: float | str = number_or(default="auto", minimum=0.0, maximum=1.0, help=TAIL_TOL)


def tolerance(tail_tol: float | str) -> float | None:
    """Return the share that `tail_tol` says, None for `auto`."""
    return None if isinstance(tail_tol, str) else tail_tol


def mean_change(p: JointParams, n: int) -> list[float]:
    """Return what each of n changes is multiplied by where a tensor holds no linear map."""
    return [p.lambda_ * w / n for w in p.weight]
