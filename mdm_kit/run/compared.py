"""How two models differ, as values: each tensor, totals of several, everything together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mdm_kit.planner.patterns import layer_position
from mdm_kit.run.matching import Pair
from mdm_kit.words import TensorInfo

Grouping = Literal["layer", "kind"]


@dataclass(frozen=True, slots=True)
class Products:
    """Inner products of A, B and D = B - A in float64; an infinity where they leave it."""

    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0

    @property
    def norm_a(self) -> float:
        """The norm of A."""
        return math.sqrt(self.aa)

    @property
    def norm_b(self) -> float:
        """The norm of B."""
        return math.sqrt(self.bb)

    @property
    def norm_difference(self) -> float:
        """The norm of B - A, from the differences themselves."""
        return math.sqrt(self.dd)

    @property
    def relative_norm(self) -> float | None:
        """‖B - A‖ / ‖A‖: 0 where both are 0, infinite where only A is, None out of float64."""
        if not (math.isfinite(self.aa) and math.isfinite(self.dd)):
            return None
        if self.aa == 0.0:
            return math.inf if self.dd else 0.0
        return self.norm_difference / self.norm_a

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle of A and B in [-1, 1], None where one is zero or out of float64.

        Exactly 1 where they are the same, which rounding would not give.
        """
        if not all(map(math.isfinite, (self.aa, self.bb, self.ab))):
            return None
        if self.aa == 0.0 or self.bb == 0.0:
            return None
        if self.dd == 0.0:
            return 1.0
        return max(-1.0, min(1.0, self.ab / self.norm_a / self.norm_b))


@dataclass(frozen=True, slots=True)
class Numbers:
    """How two tensors of floating numbers differ.

    `largest` is the largest |B - A|, `largest_at` its first flat index, None where all are equal.
    `lost_a` and `lost_b` count the NaNs and infinities of A and B; where one is, the element of
    the other is left out of the products and of `largest` with it.
    """

    products: Products
    largest: float
    largest_at: int | None
    lost_a: int
    lost_b: int

    @property
    def n_lost(self) -> int:
        """NaNs and infinities of both."""
        return self.lost_a + self.lost_b


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """How a tensor differs; `n_changed` is None where its two dtypes cannot be compared.

    An element has changed where its bits differ, with two dtypes where its value does. `numbers`
    is None but for floating types.
    """

    pair: Pair
    n_changed: int | None
    numbers: Numbers | None

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.pair.name

    @property
    def n_elements(self) -> int:
        """How many elements it has in either model."""
        return self.pair.a.n_elements

    @property
    def changed_share(self) -> float | None:
        """Share of changed elements in [0, 1]; 0 for an empty tensor, None if incomparable."""
        return None if self.n_changed is None else _share(self.n_changed, self.n_elements)

    def to_json(self) -> dict[str, Any]:
        """Return what is known of the tensor; null where a number is not finite or not there."""
        known: dict[str, Any] = {
            "shape": list(self.pair.a.shape),
            "dtypes": [self.pair.a.dtype, self.pair.b.dtype],
            "n_elements": self.n_elements,
            "n_changed": self.n_changed,
            "changed_share": self.changed_share,
        }
        if self.numbers is not None:
            known |= _products_json(self.numbers.products) | {
                "largest_difference": _finite(self.numbers.largest),
                "largest_difference_at": self.numbers.largest_at,
                "not_finite": [self.numbers.lost_a, self.numbers.lost_b],
            }
        return known


@dataclass(frozen=True, slots=True)
class Total:
    """How several tensors differ together; those that cannot be compared do not count.

    `products` are of the `n_numeric` tensors of floating numbers among them.
    """

    n_tensors: int
    n_numeric: int
    n_changed_tensors: int
    n_elements: int
    n_changed: int
    products: Products

    @property
    def changed_share(self) -> float:
        """Share of changed elements in [0, 1]; 0 where there are none."""
        return _share(self.n_changed, self.n_elements)

    def to_json(self) -> dict[str, Any]:
        """Return the counts, shares, norms; null where a number is not finite or not there."""
        return {
            "n_tensors": self.n_tensors,
            "n_numeric_tensors": self.n_numeric,
            "n_changed_tensors": self.n_changed_tensors,
            "n_elements": self.n_elements,
            "n_changed": self.n_changed,
            "changed_share": self.changed_share,
            **_products_json(self.products),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """How model B differs from model A, in A's order of tensors."""

    tensors: tuple[TensorDifference, ...]
    reshaped: tuple[Pair, ...] = ()
    only_a: tuple[TensorInfo, ...] = ()
    only_b: tuple[TensorInfo, ...] = ()
    total: Total = field(init=False)

    def __post_init__(self) -> None:
        """Sum up all tensors."""
        object.__setattr__(self, "total", _total(self.tensors))

    @property
    def retyped(self) -> tuple[Pair, ...]:
        """The tensors of the same shape that are stored in another dtype."""
        return tuple(t.pair for t in self.tensors if t.pair.a.dtype != t.pair.b.dtype)

    @property
    def incomparable(self) -> tuple[Pair, ...]:
        """Those of them whose dtypes have no values in common."""
        return tuple(t.pair for t in self.tensors if t.n_changed is None)

    @property
    def same_tensors(self) -> bool:
        """Whether both models have the same names with the same shapes."""
        return not (self.reshaped or self.only_a or self.only_b)

    @property
    def identical(self) -> bool:
        """Whether both hold the same tensors with the same bits."""
        return self.same_tensors and not self.retyped and not self.total.n_changed

    def by(self, grouping: Grouping) -> dict[str, Total]:
        """Return totals by `layer`, in the layers' order, or by `kind`: name without layer number.

        A tensor outside layers is a group of its own.
        """
        groups: dict[str, list[TensorDifference]] = {}
        for tensor in sorted(self.tensors, key=_place) if grouping == "layer" else self.tensors:
            groups.setdefault(_group(tensor.name, grouping), []).append(tensor)
        return {name: _total(members) for name, members in groups.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything, free of NaN and infinity."""
        return {
            "identical": self.identical,
            "total": self.total.to_json(),
            "tensors": {t.name: t.to_json() for t in self.tensors},
            "only_a": {t.name: _header_json(t) for t in self.only_a},
            "only_b": {t.name: _header_json(t) for t in self.only_b},
            "other_shape": {
                p.name: {"a": _header_json(p.a), "b": _header_json(p.b)} for p in self.reshaped
            },
            "other_dtype": [p.name for p in self.retyped],
            "not_comparable": [p.name for p in self.incomparable],
            "layers": {name: total.to_json() for name, total in self.by("layer").items()},
            "kinds": {name: total.to_json() for name, total in self.by("kind").items()},
        }


def _total(tensors: Sequence[TensorDifference]) -> Total:
    known = [(t.n_elements, t.n_changed) for t in tensors if t.n_changed is not None]
    products = [t.numbers.products for t in tensors if t.numbers]
    return Total(
        n_tensors=len(known),
        n_numeric=len(products),
        n_changed_tensors=sum(changed > 0 for _, changed in known),
        n_elements=sum(n for n, _ in known),
        n_changed=sum(changed for _, changed in known),
        products=Products(
            aa=_sum(p.aa for p in products),
            bb=_sum(p.bb for p in products),
            ab=_sum(p.ab for p in products),
            dd=_sum(p.dd for p in products),
        ),
    )


def _sum(terms: Iterable[float]) -> float:
    """Return the sum rounded once; an infinity where it leaves float64."""
    try:
        return math.fsum(terms)
    except (OverflowError, ValueError):  # too large, or infinities of both signs
        return math.inf


def _place(tensor: TensorDifference) -> tuple[bool, str, int]:
    """Return what sorts layers by stack and number, behind what is outside layers."""
    position = layer_position(tensor.name)
    return (True, position.stack, position.index) if position else (False, "", 0)


def _group(name: str, grouping: Grouping) -> str:
    position = layer_position(name)
    if position is None:
        return name
    number, _, rest = name.removeprefix(position.stack).partition(".")
    return f"{position.stack}{number}" if grouping == "layer" else f"{position.stack}*.{rest}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _products_json(products: Products) -> dict[str, float | None]:
    return {
        "norm_a": _finite(products.norm_a),
        "norm_b": _finite(products.norm_b),
        "norm_difference": _finite(products.norm_difference),
        "relative_norm": _finite(products.relative_norm),
        "cosine": products.cosine,
    }


def _header_json(info: TensorInfo) -> dict[str, Any]:
    return {"shape": list(info.shape), "dtype": info.dtype}
