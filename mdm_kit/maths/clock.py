"""Who times what kernels for linear maps do; nobody, unless asked."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Part = Literal["gram", "eigen", "products"]
"""Gram matrices; eigenproblems and factors; all other products of matrices."""


class Clock(Protocol):
    """Times parts of a kernel's work."""

    def __call__(self, stage: Part, /) -> AbstractContextManager[None]:
        """Add the time of the block to a part."""


def untimed(_: Part, /) -> AbstractContextManager[None]:
    """Time nothing."""
    return nullcontext()
