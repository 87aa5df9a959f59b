"""Parts of changes: kept by rank or chance, counted or not by an elected sign, summed, added."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.layouts import (
    ALL,
    BITS,
    CODES,
    DRAWN,
    NONE,
    RANKED,
    MaskArgs,
    MaskOf,
    mask_scratch_nbytes,
)
from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch
from mdm_kit.maths.select_tile import Scoring
from mdm_kit.maths.selection import Cut
from mdm_kit.maths.stored import Stored

F64s = NDArray[np.float64]

_scratch = Scratch()
_NEVER = Cut(math.inf, np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class Mask:
    """What is kept of one model: made by one of the class's functions."""

    kind: int
    kept: Cut = _NEVER
    dropped: Cut = _NEVER
    key: int = 0
    threshold: int = 0
    bits: NDArray[np.uint8] | None = None

    @classmethod
    def everything(cls) -> Mask:
        """Keep all elements."""
        return cls(ALL)

    @classmethod
    def nothing(cls) -> Mask:
        """Keep none."""
        return cls(NONE)

    @classmethod
    def ranked(cls, kept: Cut, dropped: Cut | None = None) -> Mask:
        """Keep the scores that are in `kept`, but not those in `dropped`."""
        return cls(RANKED, kept, dropped or Cut(math.inf, np.zeros_like(kept.ties)))

    @classmethod
    def drawn(cls, share: float, key: int) -> Mask:
        """Keep elements by chance, with the numbers of a key (int64)."""
        return cls(DRAWN, key=key, threshold=min(round(share * 2.0**32), 2**32 - 1))

    @classmethod
    def given(cls, bits: NDArray[np.uint8]) -> Mask:
        """Keep elements whose bit is set, the lowest bit of the first byte first."""
        return cls(BITS, bits=bits)

    def words(self) -> MaskOf:
        """Return the mask as the kernel takes it; the arrays must outlive it."""
        return MaskOf(
            kind=self.kind,
            ties_kept=self.kept.ties.ctypes.data,
            ties_dropped=self.dropped.ties.ctypes.data,
            key=self.key,
            threshold=self.threshold,
            bits=0 if self.bits is None else self.bits.ctypes.data,
        )

    def limits(self, real: type[np.floating]) -> tuple[float, float, float, float]:
        """Return the four limits of the rank in a precision; see `layouts.MaskArgs`."""
        found: list[float] = []
        for cut in (self.kept, self.dropped):
            limit = real(cut.limit)
            if float(limit) < cut.limit:  # what is kept reaches the limit itself
                limit = np.nextafter(limit, real(math.inf))
            found += [float(limit), float(np.nextafter(limit, real(math.inf)))]
        return found[0], found[1], found[2], found[3]


@dataclass(frozen=True, slots=True)
class Combining:
    """How what is kept is summed: the factors (3, k) of election, sum and divisor.

    `floor` is the least divisor; without one a divisor of 0 counts as 1.
    """

    factors: F64s
    elect: bool
    normalize: bool
    scale: float
    floor: float = 0.0


def mask_tile(
    tile: Stored,
    *,
    scoring: Scoring,
    masks: Sequence[Mask],
    combining: Combining,
    out: int,
    out_dtype: str,
) -> bool:
    """Write a tile's merged elements at the address `out`, rounded once.

    The first input is the base. Arithmetic is float32, float64 where the tile is wide. Returns
    whether all changes and results are finite.
    """
    return _run(tile, scoring, masks, combining, out, CODES[out_dtype], None)


def sum_tile(tile: Stored, *, scoring: Scoring, masks: Sequence[Mask], sums: F64s) -> bool:
    """Fill `sums` (blocks, k, 3) with Σ|d|, Σ|kept d| and Σ(kept d)² of each block and model.

    Returns whether all changes are finite.
    """
    nothing = Combining(np.zeros((3, len(masks))), elect=False, normalize=False, scale=0.0)
    return _run(tile, scoring, masks, nothing, 0, 0, sums)


def _run(
    tile: Stored,
    scoring: Scoring,
    masks: Sequence[Mask],
    combining: Combining,
    out: int,
    out_code: int,
    sums: F64s | None,
) -> bool:
    k = len(masks)
    inputs = tile.table()
    words = np.array([m.words() for m in masks], np.int64)
    cuts = np.array([m.limits(np.float64 if tile.wide else np.float32) for m in masks])
    factors = np.ascontiguousarray(combining.factors)
    numbers = np.array([combining.scale, combining.floor]).view(np.int64)
    args = np.array(
        MaskArgs(
            inputs=ctypes.addressof(inputs),
            k=k,
            start=tile.start,
            n=tile.n,
            score=scoring.score,
            masks=words.ctypes.data,
            cuts=cuts.ctypes.data,
            divergence=0 if scoring.divergence is None else scoring.divergence.ctypes.data,
            length=scoring.length,
            factors=factors.ctypes.data,
            elect=combining.elect,
            normalize=combining.normalize,
            scale=int(numbers[0]),
            floor=int(numbers[1]),
            sums=0 if sums is None else sums.ctypes.data,
            out=out,
            out_code=out_code,
            scratch=_scratch.address(mask_scratch_nbytes(k)),
        ),
        np.int64,
    )
    return bool(native("masked", "masked64" if tile.wide else "masked32", 1)(args.ctypes.data))
