"""Elements of a tensor's inputs as they are stored, and how kernels are told where they lie."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from mdm_kit.maths.layouts import CODES

Table = ctypes.Array[ctypes.c_int64]


def input_table(addresses: Sequence[int], dtypes: Sequence[str]) -> Table:
    """Return addresses, then dtypes as codes, in one array of int64."""
    return (ctypes.c_int64 * (2 * len(addresses)))(*addresses, *(CODES[d] for d in dtypes))


@dataclass(frozen=True, slots=True)
class Stored:
    """`n` elements of each input, from the tensor's element `start` on.

    Input i has them at `addresses[i]`, with the safetensors dtype `dtypes[i]`; where there is a
    base it comes first. Changes are formed in float32, in float64 if `wide`.
    """

    addresses: Sequence[int]
    dtypes: Sequence[str]
    start: int
    n: int
    wide: bool

    @property
    def n_models(self) -> int:
        """How many inputs there are besides a base."""
        return len(self.addresses) - 1

    def table(self) -> Table:
        """Return the inputs as kernels take them; it must live as long as their call."""
        return input_table(self.addresses, self.dtypes)

    def of_model(self, i: int) -> Stored:
        """Return the base and model i alone."""
        chosen = (0, i + 1)
        return Stored(
            [self.addresses[c] for c in chosen],
            [self.dtypes[c] for c in chosen],
            self.start,
            self.n,
            self.wide,
        )
