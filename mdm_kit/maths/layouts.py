"""What callers of the kernels must know about them, free of imports."""

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
