"""DARE: drop each change by chance, stretch what is left, add.

Each element of a task vector is kept with probability `density`, by a draw that depends on the
recipe's `seed`, the tensor's and the model's name, and the element alone. What is kept is stretched
to the task vector's sum of magnitudes, about 1/`density` (Yu et al. 2024, arXiv:2311.03099, §3).

Where not to use: changes that are large against the base (full pre-training continued), which do
not survive dropping; densities below 0.1 without looking at the scores.
"""

from __future__ import annotations

from mdm_kit.methods.contract import rule_method
from mdm_kit.methods.masked import masking
from mdm_kit.methods.plain_chance import DareParams, by_chance
from mdm_kit.methods.rules import Masking


class Params(DareParams):
    """Parameters of `dare_linear`."""


@rule_method("dare_linear", params=Params, base="origin", order_free=True, dialect=True)
def dare_linear(p: Params, shape: tuple[int, ...]) -> Masking:
    """Keep changes by chance and add them."""
    return masking(p, by_chance(p), elect=False)
