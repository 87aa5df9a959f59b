"""Random numbers for what is dropped by chance: ours, by counter, not torch's generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdm_kit.maths.layouts import FOLD_ROW as ROW
from mdm_kit.maths.native import native


def uniform(key: int, shape: tuple[int, ...]) -> Tensor:
    """Return the float64 numbers of a key (int64) in [0, 1), one for each element of `shape`.

    They are what `kernels.philox` gives the elements, divided by 2³².
    """
    n = int(np.prod(shape))
    rows = -(-n // ROW)
    words = np.empty(rows * ROW, np.uint32)
    native("philox", "random_numbers", 4)(key, 0, rows, words.ctypes.data)
    numbers = words[:n].astype(np.float64)
    numbers /= 2.0**32
    return torch.from_numpy(numbers).reshape(shape)
