"""Breadcrumbs with sign election: drop the largest and the smallest changes, add those that agree.

Of each task vector the `gamma` share of largest magnitude is dropped as outliers, and of what
follows the `density` share is kept (Davari and Belilovsky 2023, arXiv:2312.06795, §3); then signs
are elected as in TIES (arXiv:2306.01708).

Where not to use: models with different bases; small adapters, whose few large changes are the
whole skill.
"""

from __future__ import annotations

from mdm_kit.methods.contract import rule_method
from mdm_kit.methods.masked import masking
from mdm_kit.methods.rules import Masking
from mdm_kit.methods.without_outliers import BreadcrumbsParams, middle


class Params(BreadcrumbsParams):
    """Parameters of `breadcrumbs_ties`."""


@rule_method("breadcrumbs_ties", params=Params, base="origin", order_free=True, dialect=True)
def breadcrumbs_ties(p: Params, shape: tuple[int, ...]) -> Masking:
    """Keep the middle of each model's changes and add those of the elected sign."""
    return masking(p, middle(p, shape), elect=True)
