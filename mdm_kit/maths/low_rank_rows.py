"""Elements of a stored tensor plus a product of thin factors, which is never formed whole.

The product is made in blocks of rows counted from the tensor's first, so that no element depends on
which others are asked for with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread

ROWS = 32
"""Rows of the product that are multiplied at once: enough for a matrix product to be one, few
enough that a tile throws little away."""


def add_product(out: Tensor, start: int, left: Tensor, right: Tensor) -> None:
    """Add elements of left @ right, row behind row and from `start` on, to `out`.

    `out` is flat; `left` (rows, rank) and `right` (rank, columns) have its dtype and are
    contiguous.
    """
    rows, width = left.shape[0], right.shape[1]
    end, at = start + len(out), start
    with one_thread():
        while at < end:
            first = at // width // ROWS * ROWS
            product = torch.mm(left[first : min(first + ROWS, rows)], right).view(-1)
            skipped = at - first * width
            count = min(end - at, len(product) - skipped)
            out[at - start : at - start + count] += product[skipped : skipped + count]
            at += count
