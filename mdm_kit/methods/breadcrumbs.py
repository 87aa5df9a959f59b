"""Model Breadcrumbs: drop the largest changes and the smallest, add the rest.

Of each task vector the `gamma` share of largest magnitude is dropped as outliers, and of what
follows the `density` share is kept (Davari and Belilovsky 2023, arXiv:2312.06795, §3).

Where not to use: models with different bases; small adapters, whose few large changes are the
whole skill.
"""

from __future__ import annotations

from mdm_kit.methods.contract import rule_method
from mdm_kit.methods.masked import masking
from mdm_kit.methods.rules import Masking
from mdm_kit.methods.without_outliers import BreadcrumbsParams, middle


class Params(BreadcrumbsParams):
    """Parameters of `breadcrumbs`."""


@rule_method("breadcrumbs", params=Params, base="origin", order_free=True, dialect=True)
def breadcrumbs(p: Params, shape: tuple[int, ...]) -> Masking:
    """Keep the middle of each model's changes and add it."""
    return masking(p, middle(p, shape), elect=False)
