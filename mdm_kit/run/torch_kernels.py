"""Tiles on a device torch drives: the arithmetic of `cpu_kernels`, step by step in torch.

Never run on a GPU so far: what is tested is that results agree with the CPU kernels when torch's
device is the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.rounding import all_finite, round_into
from mdm_kit.planner.nodes import Read
from mdm_kit.run.cpu_kernels import CpuKernels
from mdm_kit.run.executor import Bytes
from mdm_kit.run.tile import MeasureTile, Tile
from mdm_kit.run.weights import Weights
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES


class TorchKernels:
    """Folds and measures tiles on `device`; what the device cannot do in float64, the CPU does."""

    def __init__(self, sources: Mapping[str, Source], device: torch.device) -> None:
        """Read from `sources`, by name, and compute on `device`."""
        self._cpu = CpuKernels(sources)
        self._device = device

    def load(self, tile: Tile | MeasureTile, reads: Sequence[Read]) -> Bytes:
        """Return the tile's bytes of each input as rows in host memory, valid until the next."""
        return self._cpu.load(tile, reads)

    def fold(
        self,
        rows: Bytes,
        reads: Sequence[Read],
        *,
        base: bool,
        weights: Weights,
        tile: Tile,
        out: Bytes,
    ) -> bool:
        """Fold loaded rows into `out` (tile.nbytes,); return whether every value is finite."""
        if weights.wide and not self._has_float64:
            return self._cpu.fold(rows, reads, base=base, weights=weights, tile=tile, out=out)
        wide = torch.float64 if weights.wide else torch.float32
        inputs = [
            self._widened(row, r, tile.count, wide) for row, r in zip(rows, reads, strict=True)
        ]
        total: torch.Tensor | None = None
        for x, w in zip(inputs[1:] if base else inputs, weights.values, strict=True):
            product = (x.sub_(inputs[0]) if base else x).mul_(w)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 -- a merge has at least one model
        folded = inputs[0].add_(total) if base else total
        stored = torch.from_numpy(out).view(getattr(torch, DTYPES[tile.write.dtype].torch_name))
        rounded = torch.empty_like(stored, device=self._device)
        round_into(folded, rounded)
        stored.copy_(rounded)
        return all_finite(stored)

    def measure(
        self, rows: Bytes, reads: Sequence[Read], count: int, *, wide: bool, exact: bool, out: Bytes
    ) -> None:
        """Write the inner products of each block of loaded rows (the base first) into `out`."""
        if exact or not self._has_float64:
            self._cpu.measure(rows, reads, count, wide=wide, exact=exact, out=out)
            return
        dtype = torch.float64 if wide else torch.float32
        inputs = [self._widened(row, r, count, dtype) for row, r in zip(rows, reads, strict=True)]
        deltas = [x.sub_(inputs[0]).to(torch.float64) for x in inputs[1:]]
        pairs = [(i, h) for i in range(len(deltas)) for h in range(i + 1)]
        products = torch.from_numpy(out).view(torch.float64).view(-1, len(pairs))
        for p, (i, h) in enumerate(pairs):
            for b, start in enumerate(range(0, count, BLOCK)):
                stop = start + BLOCK
                products[b, p] = torch.sum(deltas[i][start:stop] * deltas[h][start:stop])

    @property
    def _has_float64(self) -> bool:
        return self._device.type != "mps"

    def _widened(self, row: Bytes, read: Read, count: int, dtype: torch.dtype) -> torch.Tensor:
        stored = DTYPES[read.info.dtype]
        raw = torch.from_numpy(row[: count * stored.bits // 8])
        # A copy even where the dtype is the same: the row is the worker's and is used again.
        return raw.view(getattr(torch, stored.torch_name)).to(self._device, dtype, copy=True)
