"""Tiles on a device torch drives: the arithmetic of `cpu_kernels`, step by step in torch.

Never run on a GPU so far: what is tested is that results agree with the CPU kernels when torch's
device is the CPU.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.rounding import all_finite, round_into
from mdm_kit.run.cpu_kernels import CpuKernels
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.weights import Weights
from mdm_kit.words import DTYPES


class TorchKernels:
    """Folds and measures tiles on `device`; what the device cannot do in float64, the CPU does."""

    def __init__(self, device: torch.device) -> None:
        """Compute on `device`."""
        self._cpu = CpuKernels()
        self._device = device

    def fold(
        self, inputs: Inputs, out: Bytes, out_dtype: str, *, base: bool, weights: Weights
    ) -> bool:
        """Fold inputs into `out`, rounded to `out_dtype`; return whether every value is finite."""
        if weights.wide and not self._has_float64:
            return self._cpu.fold(inputs, out, out_dtype, base=base, weights=weights)
        values = self._widened(inputs, torch.float64 if weights.wide else torch.float32)
        total: torch.Tensor | None = None
        for x, w in zip(values[1:] if base else values, weights.values, strict=True):
            product = (x.sub_(values[0]) if base else x).mul_(w)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 -- a merge has at least one model
        folded = values[0].add_(total) if base else total
        stored = torch.from_numpy(out).view(getattr(torch, DTYPES[out_dtype].torch_name))
        rounded = torch.empty_like(stored, device=self._device)
        round_into(folded, rounded)
        stored.copy_(rounded)
        return all_finite(stored)

    def measure(
        self, inputs: Inputs, out: NDArray[np.float64], *, known: int, wide: bool, exact: bool
    ) -> None:
        """Write the inner products of inputs (the base first) into `out`; see `CpuKernels`."""
        if exact or not self._has_float64:
            self._cpu.measure(inputs, out, known=known, wide=wide, exact=exact)
            return
        values = self._widened(inputs, torch.float64 if wide else torch.float32)
        deltas = [x.sub_(values[0]).to(torch.float64) for x in values[1:]]
        pairs = [(i, h) for i in range(known, len(deltas)) for h in range(i + 1)]
        products = torch.from_numpy(out)
        for p, (i, h) in enumerate(pairs):
            for b, start in enumerate(range(0, inputs.count, BLOCK)):
                stop = start + BLOCK
                products[b, p] = torch.sum(deltas[i][start:stop] * deltas[h][start:stop])

    @property
    def _has_float64(self) -> bool:
        return self._device.type != "mps"

    def _widened(self, inputs: Inputs, dtype: torch.dtype) -> list[torch.Tensor]:
        found = []
        for i, stored in enumerate(inputs.dtypes):
            raw = torch.from_numpy(inputs.array(i))
            kept = raw.view(getattr(torch, DTYPES[stored].torch_name))
            # A copy even where the dtype is the same: the bytes are borrowed.
            found.append(kept.to(self._device, dtype, copy=True))
        return found
