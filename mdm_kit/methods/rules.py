"""What a rule method says about a tensor: what is kept of each model, and how it is joined.

The set is closed, so that the executor can count the readings of a tensor beforehand and cut a
large one into tiles:

    Masking    base + λ Σ w_i (part of d_i that is kept), by election, averaged, or neither
    Spanning   Σ c_i x_i, the c_i found from inner products of the inputs
    Counting   a sum of changes that depends on how many models changed an element
    Swapping   each element drawn to another model by at most a given step
    Outdoing   each element by the largest change of it
    Agreeing   a weighted sum of changes, where enough models stand behind it

The rules of matrix methods are sums that grow model by model, whatever their number:

    Projecting  base + c Σ what of d_t is foreign to the sum before it
    Covarying   base + λ M, M found from sums of changes and of their covariances

That of a joint method takes all models' changes to a linear map at once:

    Joining     base + λ M, M made of the changes, which are read as often as that takes
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.joint_costs import Costing
from mdm_kit.maths.matrix import Matrix

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.maths.changes import Changes

F64s = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Vectors:
    """A tensor as vectors along one axis: (outer, length, inner), the vectors in the middle."""

    outer: int
    length: int
    inner: int

    @property
    def n(self) -> int:
        """How many vectors there are."""
        return self.outer * self.inner


def along(shape: tuple[int, ...], axis: int) -> Vectors:
    """Return the vectors along an axis of `shape`; a scalar is one vector of one element."""
    shape = shape or (1,)
    axis %= len(shape)
    return Vectors(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def whole(shape: tuple[int, ...]) -> Vectors:
    """Return the tensor as one vector."""
    return Vectors(1, math.prod(shape), 1)


@dataclass(frozen=True, slots=True)
class Everything:
    """Keep every element."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Keep no element."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Keep the elements of rank `first` up to, but without, `last` by magnitude.

    Rank 0 is the largest; of equal magnitudes the lower index has the lower rank.
    """

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """Keep each element by chance, with probability `share`."""

    share: float


@dataclass(frozen=True, slots=True)
class DrawnByRank:
    """Keep each element by chance; the probability grows with its rank by magnitude in its vector.

    From `low` for the smallest to `high` for the largest, in even steps; the mean of both where a
    vector has one element. Of equal magnitudes the lower index ranks higher.
    """

    low: float
    high: float
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class MostSpread:
    """Keep the elements whose variance over the models is highest, the same for every model.

    `share` of those whose variance is not zero; of equal ones the lower index goes first.
    """

    share: float


@dataclass(frozen=True, slots=True)
class Outstanding:
    """Keep what is far above the rest in importance, |d| times the divergence of its vector.

    The divergence is Σ p log(p/q), p and q being softmax + 1e-8 of the model's and the base's
    vector. Kept is an importance of at least median + 1.5 (upper - lower quartile); the quartile q
    of n sorted values is the one at ⌊q (n - 1)⌋.
    """

    vectors: Vectors


Keep = Everything | Nothing | Ranked | Drawn | DrawnByRank | MostSpread | Outstanding


@dataclass(frozen=True, slots=True)
class Masking:
    """base + `scale` Σ w_i m_i d_i, m_i being what is kept of a model.

    With `rescale` each m_i d_i is stretched to the sum of magnitudes of d_i. Without `weights` they
    are each model's share in the mean square of what is kept, and the signs are elected without
    them. With `elect` an element counts only the models whose weighted change has the sign of their
    sum (zero counts as positive). With `normalize` it is divided by the sum of the weights that
    count; a divisor of nothing is 1.
    """

    keeps: tuple[Keep, ...]
    weights: tuple[float, ...] | None
    elect: bool = False
    rescale: bool = False
    normalize: bool = False
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Spanning:
    """Σ c_i x_i over the inputs (deltas where the method takes deltas), vector by vector.

    `weights` turns inner products (n, k, k) float64 of n vectors into factors (n, k). Raises
    `ValueError` in words where there are none.
    """

    vectors: Vectors
    weights: Callable[[F64s], F64s]


@dataclass(frozen=True, slots=True)
class Counting:
    """base + Σ over the models that change an element by more than `epsilon`, by their number.

    Several changes of one element are averaged. A change that no other model makes is multiplied by
    1 + `r` · min(ρ, `alpha`), ρ being the model's number of shared changes over its number of own.
    """

    epsilon: float
    r: float = 0.0
    alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class Swapping:
    """base + w d, with w = min(1, `t` / max(|d|, 1e-6)) and no less than 0."""

    t: float


@dataclass(frozen=True, slots=True)
class Outdoing:
    """base + `scale` d, d being the change of largest magnitude; of equal ones the last model's."""

    scale: float


@dataclass(frozen=True, slots=True)
class Agreeing:
    """base + `scale` D with D = Σ w_i d_i where `agree` models at least stand behind it, else base.

    A model stands behind the D of an element where |d_i| is `tall` · |D - d_i| at least.
    """

    weights: tuple[float, ...]
    tall: float
    agree: float
    scale: float


@dataclass(frozen=True, slots=True)
class Projecting:
    """base + `factor` c S_T, with S_1 = d_1 and S_t = S_{t-1} + P(d_t; S_{t-1}).

    P takes each of the `matrices` by itself; without any S_t = S_{t-1} + d_t. With the singular
    vectors U and V of S_{t-1} it drops from Uᵀ d_t V the block of the first k, whose values reach
    the share `alpha` of their sum, and by the `variant` the diagonal and more. Singular values
    below `tail_tol` times the largest are none; None finds the tolerance from how the models are
    stored. c is `scale`; None is the mean norm of the d_t over the norm of S_T, of this tensor
    where it stands `alone`, else of the whole model.
    """

    matrices: tuple[Matrix, ...]
    alpha: float
    variant: str
    tail_tol: float | None
    scale: float | None
    alone: bool
    factor: float


@dataclass(frozen=True, slots=True)
class Covarying:
    """base + `factor` M, with M = A + (P - A C)(C + μ I)⁻¹ and μ = `ridge` tr C / n.

    A = Σ w_i d_i, C = Σ w_i d_iᵀd_i/|d_i|², P = Σ w_i d_i d_iᵀd_i/|d_i|², for each of the
    `matrices`; without any M = `other` A. The sums depend on no order, to the last bit.
    """

    matrices: tuple[Matrix, ...]
    weights: tuple[float, ...]
    ridge: float
    other: float
    factor: float


@dataclass(frozen=True, slots=True)
class Joining:
    """base + `factor` M for each of the `matrices`, of which there is one at least.

    `join` turns the models' changes into M (out, in), going through them `passes` times, each time
    to the end; it raises `NotFiniteError` or returns no finite M where a change is not finite.
    `cost` is what that takes.
    """

    matrices: tuple[Matrix, ...]
    join: Callable[[Changes], Tensor]
    cost: Costing
    factor: float
    passes: int = 1


Rule = Masking | Spanning | Counting | Swapping | Outdoing | Agreeing
SumRule = Projecting | Covarying
