"""NearSwap: draw the base towards another model, fully where they are near.

Each weight moves by w d with w = min(1, `t` / |d|): changes of at most `t` are taken whole, larger
ones move by `t` (alchemonaut 2024, huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001).

Where not to use: to blend two models evenly; the larger the difference, the less of it comes over.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, rule_method, shared
from mdm_kit.methods.rules import Swapping


class Params(MethodParams):
    """Parameters of `nearswap`."""

    t: float = shared(help="largest step of a weight", example=0.0001)


@rule_method(
    "nearswap",
    params=Params,
    base="origin",
    max_models=1,
    order_free=True,
    dialect=True,
    undo=(),
)
def nearswap(p: Params, shape: tuple[int, ...]) -> Swapping:
    """Move each weight towards the model's, by at most `t`."""
    return Swapping(p.t)
