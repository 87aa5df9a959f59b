"""What callers of the kernels must know about them, free of heavy imports."""

from __future__ import annotations

from typing import NamedTuple

F32, BF16, F16, F64 = 0, 1, 2, 3
"""Codes of the dtypes a kernel reads and writes."""

CODES = {"F32": F32, "BF16": BF16, "F16": F16, "F64": F64}

FOLD_ROW = 2048
"""Numbers a fold works on at a time: three rows of float32 are 24 KiB, within a 32 KiB cache."""
FOLD_SCRATCH_NBYTES = 4 * FOLD_ROW * 8

GRAM_LANES = 256
"""Sums that run side by side in a block: vectors for the compiler, and shorter sums for accuracy.
Ten models have 55 pairs, whose lanes are 110 KiB."""
GRAM_ROW = 4 * GRAM_LANES
"""Numbers of each delta whose products are added at a time."""


def gram_scratch_nbytes(k: int) -> int:
    """Return the scratch memory (bytes) to measure k - 1 deltas against their base."""
    pairs = (k - 1) * k // 2
    return ((k + 1) * GRAM_ROW + 2 * pairs * GRAM_LANES) * 8


MAGNITUDE, SPREAD, IMPORTANCE = 0, 1, 2
"""What elements are selected by: |d|; the variance over the models; |d| times the divergence of
the element's vector."""

SAMPLE_GROUP = 4096
SAMPLE_RUN = 16
"""Of every group of elements a run is sampled: one line of memory, and every row of a matrix."""

N_COUNTS = 6
"""Counted in each block: scores above the upper pivot, equal to it, between, equal to the lower,
not zero, not finite."""

ALL, NONE, RANKED, DRAWN, BITS = 0, 1, 2, 3, 4
"""How a model's elements are kept: all; none; by the rank of a score; by chance; by given bits."""

MASK_LANES = 64
"""Sums that run side by side in a block."""


class SelectArgs(NamedTuple):
    """What `select32` and `select64` take: int64s, most of them addresses.

    `inputs` holds k + 1 addresses, the base's first, then their codes; `models` (int64),
    `pivots` (a float64 pair, lower and upper) and `got` (int64) have one entry for each of
    `n_selections`. `start` is the tile's first element, counted from the tensor's. A tile's scores
    between the pivots go to `scores`, at most `capacity` for each selection, `capacity` + 2048
    apart; `sample` asks for a sample instead.
    """

    inputs: int
    k: int
    start: int
    n: int
    score: int
    n_selections: int
    models: int
    pivots: int
    counts: int
    scores: int
    capacity: int
    got: int
    divergence: int
    length: int
    sample: int
    scratch: int


class MaskArgs(NamedTuple):
    """What `masked32` and `masked64` take: int64s, most of them addresses.

    `inputs`, `start`, `n`, `divergence` and `length` are as in `SelectArgs`. `masks` has a
    `MaskOf` (int64s) for each model; `cuts` (float64) the four limits of each model's rank:
    what is kept at least, the next number above, what is too large, the next number above.
    `factors` (3, k) float64: of the election, of the sum, of the divisor. With `sums` the sums of
    magnitudes, of kept magnitudes and of kept squares go there (blocks, k, 3) and nothing is
    written; else `out` takes n numbers of `out_code`. `scale` and `floor` are the bits of a
    float64: what the sum is multiplied by, and the least divisor.
    """

    inputs: int
    k: int
    start: int
    n: int
    score: int
    masks: int
    cuts: int
    divergence: int
    length: int
    factors: int
    elect: int
    normalize: int
    scale: int
    floor: int
    sums: int
    out: int
    out_code: int
    scratch: int


class MaskOf(NamedTuple):
    """How one model's elements are kept.

    `ties_kept` and `ties_dropped` (int32, one for each block of the tensor) say how many of the
    elements equal to a limit are kept, or dropped, there: `BLOCK` means all. `key` is the key of
    the draws, which keep numbers below `threshold`; `bits` has a bit for each element.
    """

    kind: int
    ties_kept: int = 0
    ties_dropped: int = 0
    key: int = 0
    threshold: int = 0
    bits: int = 0


def select_scratch_nbytes(k: int) -> int:
    """Return the scratch memory (bytes) to select from k models."""
    return (k + 3) * FOLD_ROW * 8 + FOLD_ROW * 4


def mask_scratch_nbytes(k: int) -> int:
    """Return the scratch memory (bytes) to mask k models."""
    return (k + 6) * FOLD_ROW * 8 + 2 * FOLD_ROW * 4 + 3 * k * MASK_LANES * 8 + 16 * k


def counted_scratch_nbytes(k: int) -> int:
    """Return the scratch memory (bytes) to count k models' changes."""
    return (k + 3) * FOLD_ROW * 8 + 3 * FOLD_ROW * 4


def agreed_scratch_nbytes(k: int) -> int:
    """Return the scratch memory (bytes) to add up k models' changes where enough agree."""
    return (k + 3) * FOLD_ROW * 8 + 3 * FOLD_ROW * 4


SWAPPED_SCRATCH_NBYTES = 2 * FOLD_ROW * 8 + 3 * FOLD_ROW * 4
OUTDONE_SCRATCH_NBYTES = 3 * FOLD_ROW * 8 + 3 * FOLD_ROW * 4


def vectors_scratch_nbytes(k: int) -> int:
    """Return the scratch memory (bytes) to measure or fold k inputs vector by vector."""
    return (k + 3) * FOLD_ROW * 8 + 3 * FOLD_ROW * 4


ADDED_SCRATCH_NBYTES = 3 * FOLD_ROW * 4 + (3 * FOLD_ROW + 8) * 8

LONG_VECTOR = 4096
"""Vectors of at least this length are sorted by digits of 11 bits, shorter ones by 8."""


def ranked_draws_scratch_nbytes(n: int, length: int) -> int:
    """Return the scratch memory (bytes) to draw n elements in vectors of `length` by rank."""
    return n * 8 + (n + 2 * FOLD_ROW) * 4 + n + 192 + 16 * length + 4 * FOLD_ROW * 8


def divergence_scratch_nbytes(length: int) -> int:
    """Return the scratch memory (bytes) to compare vectors of `length` numbers."""
    return FOLD_ROW * 12 + 64 * 8 + 16 * length + 16
