"""Tiles on the CPU: stored numbers in, stored numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.fold import fold
from mdm_kit.maths.gram import gram_blocks
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.weights import Weights


class CpuKernels:
    """Folds and measures tiles; safe to call from many threads at once."""

    def fold(
        self, inputs: Inputs, out: Bytes, out_dtype: str, *, base: bool, weights: Weights
    ) -> bool:
        """Fold inputs into `out`, rounded to `out_dtype`; return whether every value is finite.

        With `base`, the first input is the base and the weights belong to the others.
        """
        return fold(
            inputs.addresses,
            inputs.dtypes,
            weights.values,
            base=base,
            wide=weights.wide,
            n=inputs.count,
            out=out.ctypes.data,
            out_dtype=out_dtype,
        )

    def measure(
        self, inputs: Inputs, out: NDArray[np.float64], *, known: int, wide: bool, exact: bool
    ) -> None:
        """Write the inner products of inputs (the base first) into `out` (blocks, pairs).

        Without those that the first `known` models have among one another.
        """
        gram_blocks(
            inputs.addresses,
            inputs.dtypes,
            known=known,
            n=inputs.count,
            wide=wide,
            exact=exact,
            out=out.ctypes.data,
        )
