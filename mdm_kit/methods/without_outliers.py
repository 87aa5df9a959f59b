"""What the two Breadcrumbs methods share: the middle of a task vector, by magnitude."""

from __future__ import annotations

from mdm_kit.methods.contract import PerModel, per_model
from mdm_kit.methods.masked import MaskedParams
from mdm_kit.methods.rules import Everything, Keep, Nothing, Ranked, whole


class BreadcrumbsParams(MaskedParams):
    """Parameters of `breadcrumbs` and `breadcrumbs_ties`."""

    gamma: PerModel[float] = per_model(
        default=0.01, minimum=0.0, maximum=1.0, help="share of the largest changes to drop"
    )


def middle(p: BreadcrumbsParams, shape: tuple[int, ...]) -> list[Keep]:
    """Return each model's keep: `density` of the elements behind the `gamma` largest.

    Where the two shares do not fit into one, fewer of the largest are dropped.
    """
    n = whole(shape).length
    keeps: list[Keep] = []
    for density, gamma in zip(p.density, p.gamma, strict=True):
        kept = int(density * n)
        if density >= 1.0:
            keeps.append(Everything())
        elif not kept:
            keeps.append(Nothing())
        else:
            first = min(int(gamma * n), n - kept)
            keeps.append(Ranked(first, first + kept))
    return keeps
