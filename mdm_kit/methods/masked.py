"""What methods that merge parts of task vectors have in common: their parameters and their sum."""

from __future__ import annotations

from collections.abc import Sequence

from mdm_kit.methods.contract import MethodParams, PerModel, per_model, shared
from mdm_kit.methods.rules import Keep, Masking


class MaskedParams(MethodParams):
    """Parameters of every such method; each declares anew what it has another default for."""

    weight: PerModel[float] = per_model(help="how much of the model's kept change is added")
    density: PerModel[float] = per_model(
        default=1.0, minimum=0.0, maximum=1.0, help="share of the change that is kept"
    )
    normalize: bool = shared(default=False, help="divide by the sum of the weights that count")
    rescale: bool = shared(
        default=False, help="stretch what is kept to the change's sum of magnitudes"
    )
    lambda_: float = shared(default=1.0, help="multiplies the whole merged change")


def masking(p: MaskedParams, keeps: Sequence[Keep], *, elect: bool) -> Masking:
    """Return the sum of what is kept of each model, as the parameters ask for it."""
    return Masking(
        keeps=tuple(keeps),
        weights=p.weight,
        elect=elect,
        rescale=p.rescale,
        normalize=p.normalize,
        scale=p.lambda_,
    )
