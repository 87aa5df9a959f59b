"""Which tensors of two models can be compared, from their headers alone."""

from __future__ import annotations

from dataclasses import dataclass

from mdm_kit.run.block_differences import comparing
from mdm_kit.sources import Source
from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors of the same name, one of A and one of B."""

    a: TensorInfo
    b: TensorInfo

    @property
    def name(self) -> str:
        """The name both have."""
        return self.a.name

    @property
    def nbytes(self) -> int:
        """Bytes of both together."""
        return self.a.nbytes + self.b.nbytes

    @property
    def is_comparable(self) -> bool:
        """Whether their elements can be compared: same shape, and dtypes that allow it."""
        return self.a.shape == self.b.shape and comparing(self.a.dtype, self.b.dtype) is not None


@dataclass(frozen=True, slots=True)
class Matching:
    """Which tensors of two models can be compared, in A's order.

    `pairs` have the same name and shape, `reshaped` only the same name.
    """

    pairs: tuple[Pair, ...]
    reshaped: tuple[Pair, ...]
    only_a: tuple[TensorInfo, ...]
    only_b: tuple[TensorInfo, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that comparing them reads."""
        return sum(p.nbytes for p in self.pairs if p.is_comparable)


def matching(a: Source, b: Source) -> Matching:
    """Return which tensors of two models can be compared, from headers alone, in A's order.

    Raises what reading headers raises: `SourceError`, `IntegrityError`.
    """
    of_a, of_b = a.headers().tensors, b.headers().tensors
    shared = [Pair(info, of_b[name]) for name, info in of_a.items() if name in of_b]
    return Matching(
        pairs=tuple(p for p in shared if p.a.shape == p.b.shape),
        reshaped=tuple(p for p in shared if p.a.shape != p.b.shape),
        only_a=tuple(info for name, info in of_a.items() if name not in of_b),
        only_b=tuple(info for name, info in of_b.items() if name not in of_a),
    )
