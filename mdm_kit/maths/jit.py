"""How kernels are compiled: no fastmath, so that every CPU gives the same bits; cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

U16 = NDArray[np.uint16]
F32s = NDArray[np.float32]
F64s = NDArray[np.float64]
I64s = NDArray[np.int64]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a function on its first call, to run without the interpreter's lock.

    Without fastmath LLVM neither reorders sums nor fuses a product into an addition.
    """
    compile_ = njit(nogil=True, cache=True, fastmath=False, error_model="numpy")
    return cast("F", compile_(function))
