"""Byte planes of a model's numbers against another's, and the numbers again from their planes.

Floats of 2 and 4 bytes are coded as differences of their ranks, sorted by the base's exponent
(`kernels.planes`), everything else as XOR. How many times smaller bfloat16 tensors that a fine-tune
changed get, with each plane compressed as `sources.kept_codec` does:

    SmolLM2-135M fine-tuned for     XOR   ranks   ranks sorted   without a base
    10 steps at 1e-4               7.28    8.06          15.15             1.50
    120 steps at 1e-4              4.17    4.80           5.87             1.50
    the demo's family              2.02    2.26           2.48             1.51
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.native import native
from mdm_kit.maths.scratch import Scratch

Bytes = NDArray[np.uint8]

RANKED = frozenset({"BF16", "F16", "F32"})
"""Dtypes coded by rank, of 2 and 4 bytes."""

_scratch = Scratch()


def split(x: Bytes, base: Bytes | None, width: int, out: Bytes, *, ranked: bool) -> None:
    """Write the byte planes of the numbers in `x` (n * width,) to `out` (n * width,).

    Plane 0, the lowest byte of all n codes, comes first. The codes are against the numbers in
    `base` (n * width,), or against zero. `ranked` is for floats of 2 or 4 bytes, which must lie at
    a multiple of their width.
    """
    n = len(x) // width
    if ranked:
        entry = native("planes", "split16" if width == 2 else "split32", 5)
        origin = 0 if base is None else base.ctypes.data
        scratch = _scratch.address(scratch_nbytes(n, width))
        entry(x.ctypes.data, origin, n, out.ctypes.data, scratch)
        return
    codes = x if base is None else x ^ base
    out.reshape(width, n)[:] = codes.reshape(n, width).T


def join(planes: Sequence[Bytes], base: Bytes | None, out: Bytes, *, ranked: bool) -> None:
    """Write to `out` (n * width,) the numbers whose `width` planes (n,) these are.

    `base` and `ranked` must be what they were for `split`. Any planes give some numbers.
    """
    width, n = len(planes), len(planes[0])
    if ranked:
        entry = native("planes", "join16" if width == 2 else "join32", 5)
        at = (ctypes.c_int64 * width)(*(plane.ctypes.data for plane in planes))
        origin = 0 if base is None else base.ctypes.data
        scratch = _scratch.address(scratch_nbytes(n, width))
        entry(ctypes.addressof(at), origin, n, out.ctypes.data, scratch)
        return
    for i, plane in enumerate(planes):
        out[i::width] = plane
    if base is not None:
        np.bitwise_xor(out, base, out=out)


def scratch_nbytes(n: int, width: int) -> int:
    """Return the scratch memory (bytes) the kernels take for n numbers of `width` bytes."""
    return 4 * 256 * 8 + n * width
