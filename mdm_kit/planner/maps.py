"""Linear maps that are merged by themselves, before the first tile of their tensor is written.

One worker takes a map at a time: its rule sums it over the models, or joins all models' changes.
"""

from __future__ import annotations

import math

from mdm_kit.maths.covariance_costs import add_flops, add_nbytes, solve_flops, solve_nbytes
from mdm_kit.maths.matrix import Matrix
from mdm_kit.maths.spectral_costs import step_flops, step_memory
from mdm_kit.methods.rules import Covarying, Joining, Projecting, SumRule
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.ruling import rule_of

MapRule = SumRule | Joining
CORE_FLOPS = 2.0e10
"""Float64 operations a core does in a second, about: a laptop's, or half a server's."""


def map_rule(write: Write) -> MapRule | None:
    """Return the rule of a tensor whose linear maps are merged by themselves, if it has any."""
    rule, apply = rule_of(write), write.apply()
    if apply is None or apply.is_factored:  # no map is formed
        return None
    return rule if isinstance(rule, Projecting | Covarying | Joining) else None


def map_nbytes(rule: MapRule, matrix: Matrix, n: int) -> int:
    """Return the memory that merging a map of n models takes, beside sums and result."""
    size = (matrix.n_out, matrix.n_in)
    if isinstance(rule, Projecting):
        # The change is held whole where its longer side does not follow in memory.
        streams = matrix.is_plain and matrix.n_out >= matrix.n_in
        return step_memory(max(size), min(size)) + (0 if streams else 8 * math.prod(size))
    if isinstance(rule, Covarying):
        work = max(add_nbytes(*size), solve_nbytes(*size, rule.ridge))
    else:
        work = rule.cost(*size, n).nbytes
    return work + (0 if matrix.is_plain else 8 * math.prod(size))


def map_seconds(rule: MapRule, matrix: Matrix, n: int) -> float:
    """Return about how long one core merges a map of n models."""
    size = (matrix.n_out, matrix.n_in)
    if isinstance(rule, Projecting):
        flops = max(0, n - 1) * step_flops(max(size), min(size))
    elif isinstance(rule, Covarying):
        flops = n * add_flops(*size) + solve_flops(*size, rule.ridge)
    else:
        flops = rule.cost(*size, n).flops
    return flops / CORE_FLOPS


def gram_side(rule: MapRule, matrix: Matrix, n: int) -> int:
    """Return the side of the largest Gram matrix of a map of n models."""
    size = (matrix.n_out, matrix.n_in)
    if isinstance(rule, Joining):
        return rule.cost(*size, n).side
    return min(size) if isinstance(rule, Projecting) else matrix.n_in


def passes_of(rule: MapRule) -> int:
    """Return how often every model is read for each map."""
    return rule.passes if isinstance(rule, Joining) else 1


def merged_nbytes(write: Write) -> int:
    """Return the bytes of what linear maps are merged to, where that is no sum itself."""
    rule, apply = map_rule(write), write.apply()
    if not isinstance(rule, Covarying | Joining) or not rule.matrices or apply is None:
        return 0
    return write.n_elements * (8 if apply.compute == "float64" else 4)
