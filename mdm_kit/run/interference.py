"""How orthogonal components really are, measured on the components themselves.

The inner products that made them orthogonal say nothing about it: they are zero by construction.
So components are formed, tile by tile in float64, and measured again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.fold import fold
from mdm_kit.maths.low_rank import Factors, inner, weighted_sum
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.solving import Group
from mdm_kit.run.course import tiles
from mdm_kit.run.factors import factors_of
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.work import Work

UNIT = 2.0**-53
"""Half the distance from 1 to the next float64."""
SUMS = 32.0
"""How many roundings of a sum over blocks count, as a random walk."""

F64s = NDArray[np.float64]


def largest_cosine_left(plan: Plan, work: Work) -> tuple[float, float] | None:
    """Return the largest |cosine| of two components of any group, and the bound of that group.

    The bound is SUMS·N·u·κ + 2s + s²: sums and their amplification κ, and the rounding s of the
    deltas, u of float64. None where a merge has no group of two live components.
    """
    writes = {w.name: w for w in plan.writes}
    worst: tuple[float, float] | None = None
    for group in work.groups.values():
        n = len(group.basis.q)
        live = [i for i in range(n) if group.basis.q[i] > 0 and i not in group.basis.dependent]
        if len(live) < 2 or _is_diagonal(group):
            continue
        products = np.zeros((n, n))
        for name in group.tensors:
            write = writes[name]
            apply, size = write.apply(), plan.budget.tile_of(write)
            wide = apply is not None and apply.compute == "float64"
            borrow = work.borrower(write)
            if apply is not None and apply.is_factored:
                changes = factors_of(apply.inputs, write.shape, borrow)
                products += _of_factors(group, changes)
                continue
            for start, count in borrow.ahead(tiles(write.n_elements, size)):
                with borrow(start, count) as inputs:
                    parts = _components(group, inputs, wide=wide)
                    products += parts @ parts.T  # (n, n)
        norms = np.sqrt(np.diag(products))
        cosines = [
            abs(float(products[i, j] / (norms[i] * norms[j]))) for i in live for j in live if j < i
        ]
        bound = SUMS * n * UNIT * group.condition + 2 * UNIT + UNIT**2
        found = (max(cosines), bound)
        worst = max(worst, found) if worst else found
    return worst


def _is_diagonal(group: Group) -> bool:
    """Whether deltas were left as they are: then nobody claims that they are orthogonal."""
    return all(
        (value == 1.0) if i == j else (value == 0.0)
        for i, row in enumerate(group.basis.matrix)
        for j, value in enumerate(row)
    )


def _of_factors(group: Group, changes: Sequence[Factors]) -> F64s:
    """Return the inner products (n, n) of components that are put together of factors."""
    parts = [weighted_sum(changes, row) for row in group.basis.matrix]
    return np.array([[inner(one, other) for other in parts] for one in parts])


def _components(group: Group, inputs: Inputs, *, wide: bool) -> F64s:
    """Return the components of a tile as (n, count) float64, from deltas formed as in the merge."""
    deltas = np.empty((len(group.basis.q), inputs.count), np.float64 if wide else np.float32)
    addresses, dtypes = inputs.addresses, inputs.dtypes
    for i, row in enumerate(deltas):
        fold(
            [addresses[i + 1], addresses[0]],
            [dtypes[i + 1], dtypes[0]],
            (1.0, -1.0),
            base=False,
            wide=wide,
            n=inputs.count,
            out=row.ctypes.data,
            out_dtype="F64" if wide else "F32",
        )
    return np.array(group.basis.matrix) @ deltas.astype(np.float64)
