"""What joint methods share: their weights, and the mean of the changes where there is no map."""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, Patterns, PerModel, patterns, per_model, shared


class JointParams(MethodParams):
    """Parameters of every such method."""

    weight: PerModel[float] = per_model(
        default=1.0, help="what the model's change is multiplied by at first"
    )
    lambda_: float = shared(default=1.0, help="multiplies the merged change")
    project: Patterns = patterns(default=(), help="tensors to join, in place of all linear weights")


def mean_change(p: JointParams, n: int) -> list[float]:
    """Return what each of n changes is multiplied by where a tensor holds no linear map."""
    return [p.lambda_ * w / n for w in p.weight]
