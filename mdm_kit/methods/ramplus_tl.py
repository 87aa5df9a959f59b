"""RAM+, tensor by tensor: RAM with what a model alone changed made stronger.

As `ram`, with a model's own changes multiplied by 1 + `r` · min(ρ, `alpha`), ρ being how many of
its changes in the tensor others share over how many they do not: who overlaps much speaks louder
where nobody else does (Reinforced Agent Merging, arXiv:2601.13572).

Where not to use: full fine-tunes that change every element, where it is an average; `epsilon` near
the size of the changes themselves.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Counting


class Params(MethodParams):
    """Parameters of `ramplus_tl`."""

    r: float = shared(default=0.1, help="how much overlap strengthens a model's own changes")
    alpha: float = shared(default=0.2, minimum=0.0, help="overlap beyond this counts as this")
    epsilon: float = shared(default=1e-5, minimum=0.0, help="smaller changes count as none")


@rule_method("ramplus_tl", params=Params, base="origin", order_free=True, dialect=True)
def ramplus_tl(p: Params, shape: tuple[int, ...]) -> Counting:
    """Add what is unique, strengthened, and the mean of what is shared."""
    return Counting(p.epsilon, p.r, p.alpha)
