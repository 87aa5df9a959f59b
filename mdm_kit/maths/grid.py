"""Sums that do not depend on their order: every term is rounded once, to a step, and then counted.

Integers add exactly, so that a term taken out again leaves the bits of a sum that never had it.
The step depends on the base alone, never on a model.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdm_kit.errors import MisfitError
from mdm_kit.maths.layouts import CODES
from mdm_kit.maths.native import native

I64s = NDArray[np.int64]

SMALLEST_BASE = -4
"""A base below 2^-4 counts as that large: one near zero, or all zero, does not say how far its
models go. A float64's 53 bits below it still resolve deltas of 1e-10."""

_CODES = {torch.float32: CODES["F32"], torch.float64: CODES["F64"]}


@dataclass(frozen=True, slots=True)
class Grid:
    """The whole multiples of 2^`exponent`, up to 2^62 of them either way."""

    exponent: int

    @classmethod
    def of_base(cls, largest: float, bits: int) -> Grid:
        """Return the grid `bits` bits finer than the base's largest magnitude.

        That is, than the power of two at or above it. Raises `ValueError` if it is not finite.
        """
        if not math.isfinite(largest):
            raise ValueError(f"a base's largest magnitude is {largest}")
        share, exponent = math.frexp(largest)
        above = exponent - 1 if share == 0.5 else exponent
        return cls(max(above if largest else SMALLEST_BASE, SMALLEST_BASE) - bits)

    @property
    def step(self) -> float:
        """The distance between neighbours."""
        return math.ldexp(1.0, self.exponent)

    def add(self, values: Tensor, factor: float, sums: I64s, *, sign: int = 1) -> None:
        """Add `sign` (1 or -1) times `factor · values`, each rounded to the grid, ties to even.

        `values` is float32 or float64, `sums` of the same shape: one row, or rows (count, n), in
        steps. The product is a float64. Raises `MisfitError` where a number or a sum is beyond 2^62
        steps, or no number; the sums are then spoiled.
        """
        values = values.contiguous()
        held = _contiguous(sums)
        self._add(values, factor, held, (1, values.numel(), 0, values.numel()), sign)
        if held is not sums:
            sums[...] = held

    def add_triangle(
        self, values: Tensor, factor: float, sums: I64s, first: int, *, sign: int = 1
    ) -> None:
        """Add rows of a symmetric matrix like `add`, each up to its diagonal.

        `values` (count, ≥ first + count) float64 holds the matrix's rows from `first` on; `sums`
        the lower triangle, row behind row: (0,0), (1,0), (1,1), (2,0), ...
        """
        part = _rows_of(sums, first, len(values))
        held = _contiguous(part)
        self._add(values, factor, held, (len(values), first + 1, 1, values.stride(0)), sign)
        if held is not part:
            part[...] = held

    def read(self, sums: I64s, out: Tensor) -> None:
        """Write the sums, as numbers, to `out`, contiguous float64 of the same size."""
        self._read(_contiguous(sums), out, (1, out.numel(), 0, out.numel()))

    def read_triangle(self, sums: I64s, out: Tensor) -> None:
        """Write a triangle's sums to `out` (n, n) float64; what is above it stays as it was."""
        self._read(_contiguous(sums), out, (len(out), 1, 1, out.stride(0)))

    def _add(
        self, values: Tensor, factor: float, held: I64s, layout: tuple[int, ...], sign: int
    ) -> None:
        f = ctypes.c_double(math.ldexp(factor, -self.exponent))
        bad = native("grid", "add_rounded", 9)(
            held.ctypes.data,
            values.data_ptr(),
            _CODES[values.dtype],
            *layout,
            ctypes.addressof(f),
            sign,
        )
        if bad:
            raise MisfitError(
                f"a model is too far from its base for an exact sum: {bad} numbers are NaN or "
                f"beyond {math.ldexp(1.0, self.exponent + 62):.3g}, which the base's largest "
                "number sets; is it a fine-tune of this base?"
            )

    def _read(self, held: I64s, out: Tensor, layout: tuple[int, ...]) -> None:
        f = ctypes.c_double(self.step)
        native("grid", "read_sums", 7)(
            held.ctypes.data, out.data_ptr(), *layout, ctypes.addressof(f)
        )


def n_triangle(n: int) -> int:
    """Return how many entries the lower triangle of an n × n matrix has."""
    return n * (n + 1) // 2


def _rows_of(sums: I64s, first: int, count: int) -> I64s:
    return sums[n_triangle(first) : n_triangle(first + count)]


def _contiguous(sums: I64s) -> I64s:
    """Return the array itself where a kernel can work on it, else a copy."""
    plain = sums.flags.c_contiguous and sums.flags.aligned
    return sums if plain else np.array(sums, order="C")
