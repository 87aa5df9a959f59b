"""DELLA: drop changes by chance, the small ones of a row more often, then elect signs.

In each row of a matrix (along the second axis; a vector is one row) elements are ranked by
magnitude. The smallest is kept with probability `density` - `epsilon`, the largest with `density` +
`epsilon`, the others evenly between. What is kept is stretched to the task vector's sum of
magnitudes; signs are elected and averaged as in TIES (Deep et al. 2024, arXiv:2406.11617, §3).

Where not to use: models with different bases; rows of very few elements, whose ranks mean little.
"""

from __future__ import annotations

from mdm_kit.methods.contract import rule_method, shared
from mdm_kit.methods.masked import masking
from mdm_kit.methods.ranked_chance import DellaParams, by_rank
from mdm_kit.methods.rules import Masking


class Params(DellaParams):
    """Parameters of `della`."""

    normalize: bool = shared(default=True, help="divide by the sum of the weights that count")


@rule_method("della", params=Params, base="origin", order_free=True, dialect=True)
def della(p: Params, shape: tuple[int, ...]) -> Masking:
    """Keep changes by ranked chance and average those of the elected sign."""
    return masking(p, by_rank(p, shape), elect=True)
