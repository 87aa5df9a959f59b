"""SCE: select what varies most between models, weigh by energy, erase minority signs.

Where `select_topk` is below 1, only that share of the elements is kept whose variance over the
models is highest (of those that vary at all). Each tensor of a model is weighted by its mean square
over what is kept; signs are elected by the plain sum, and what agrees is averaged by the weights
(Wan et al. 2024, "FuseChat", arXiv:2408.07990, §3.3).

Where not to use: models with different bases; a single model with `select_topk` below 1, in which
nothing varies and of which nothing is kept.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Everything, Keep, Masking, MostSpread, Nothing


class Params(MethodParams):
    """Parameters of `sce`."""

    select_topk: float = shared(
        default=1.0, minimum=0.0, maximum=1.0, help="share of the varying elements to keep"
    )


@rule_method("sce", params=Params, base="origin", order_free=True, dialect=True)
def sce(p: Params, shape: tuple[int, ...]) -> Masking:
    """Keep what varies most and average what agrees, by energy."""
    keep: Keep = MostSpread(p.select_topk)
    if p.select_topk >= 1.0:
        keep = Everything()
    elif p.select_topk <= 0.0:
        keep = Nothing()
    return Masking(keeps=(keep,), weights=None, elect=True, normalize=True)
