"""TIES: trim each change to its largest elements, elect a sign, average those that agree.

The `density` share of each task vector with the largest magnitude is kept; where the weighted sum
of what is left is positive (or zero) only positive changes count, else only negative ones; they are
averaged by their weights unless `normalize` is off (Yadav et al. 2023, arXiv:2306.01708, Alg. 1).

Where not to use: models with different bases; changes spread evenly over all elements, of which
the largest are no better than the rest.
"""

from __future__ import annotations

from mdm_kit.methods.contract import rule_method, shared
from mdm_kit.methods.masked import MaskedParams, masking
from mdm_kit.methods.rules import Everything, Keep, Masking, Nothing, Ranked, whole


class Params(MaskedParams):
    """Parameters of `ties`."""

    normalize: bool = shared(default=True, help="divide by the sum of the weights that count")


@rule_method("ties", params=Params, base="origin", order_free=True, dialect=True)
def ties(p: Params, shape: tuple[int, ...]) -> Masking:
    """Keep each model's largest changes and average those of the elected sign."""
    n = whole(shape).length
    return masking(p, [_largest(density, n) for density in p.density], elect=True)


def _largest(density: float, n: int) -> Keep:
    if density >= 1.0:
        return Everything()
    return Ranked(0, max(1, int(density * n))) if density > 0.0 else Nothing()
