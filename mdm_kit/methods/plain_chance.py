"""What DARE's two methods share: the same chance for every element."""

from __future__ import annotations

from mdm_kit.methods.contract import shared
from mdm_kit.methods.masked import MaskedParams
from mdm_kit.methods.rules import Drawn, Everything, Keep, Nothing


class DareParams(MaskedParams):
    """Parameters of `dare_linear` and `dare_ties`."""

    rescale: bool = shared(
        default=True, help="stretch what is kept to the change's sum of magnitudes"
    )


def by_chance(p: DareParams) -> list[Keep]:
    """Return each model's keep: `density` of the elements, on average."""
    keeps: list[Keep] = []
    for density in p.density:
        if density >= 1.0:
            keeps.append(Everything())
        else:
            keeps.append(Drawn(density) if density > 0.0 else Nothing())
    return keeps
