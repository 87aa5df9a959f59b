"""RAM: keep what one model alone changed, average what several changed.

A model changes an element where its task vector exceeds `epsilon` in magnitude. Changes of one
model are added whole; where several models change an element the mean of their changes is added
(Reinforced Agent Merging, arXiv:2601.13572).

Where not to use: full fine-tunes that change every element, where it is an average; `epsilon` near
the size of the changes themselves.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Counting


class Params(MethodParams):
    """Parameters of `ram`."""

    epsilon: float = shared(default=1e-5, minimum=0.0, help="smaller changes count as none")


@rule_method("ram", params=Params, base="origin", order_free=True, dialect=True)
def ram(p: Params, shape: tuple[int, ...]) -> Counting:
    """Add what is unique and the mean of what is shared."""
    return Counting(p.epsilon)
