"""One tile: read its inputs, apply the method, round once into the output block."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.maths.rounding import all_finite, round_into
from mdm_kit.methods.registry import methods
from mdm_kit.planner.nodes import Apply, Delta, Fold, Read, Same, Write
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES, shown


@dataclass(frozen=True, slots=True)
class Tile:
    """`count` elements of an output tensor from its flat element `start` on."""

    write: Write
    start: int
    count: int

    @property
    def nbytes(self) -> int:
        """How many output bytes the tile has."""
        return self.count * DTYPES[self.write.dtype].bits // 8


class _Buffers(threading.local):
    """A worker's own memory, reused from tile to tile: bytes as read, and values widened."""

    def __init__(self) -> None:
        self.raw: dict[int, torch.Tensor] = {}
        self.wide: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def raw_for(self, slot: int, nbytes: int) -> torch.Tensor:
        held = self.raw.get(slot)
        if held is None or held.numel() < nbytes:
            held = self.raw[slot] = torch.empty(nbytes, dtype=torch.uint8)
        return held[:nbytes]

    def wide_for(self, slot: int, count: int, dtype: torch.dtype) -> torch.Tensor:
        held = self.wide.get((slot, dtype))
        if held is None or held.numel() < count:
            held = self.wide[slot, dtype] = torch.empty(count, dtype=dtype)
        return held[:count]


class TileKernel:
    """Computes tiles on one device; safe to call from many threads at once."""

    def __init__(self, sources: Mapping[str, Source], device: torch.device) -> None:
        """Read from `sources` (by name) and do the arithmetic on `device`."""
        self._sources = sources
        self._device = device
        self._buffers = _Buffers()

    def __call__(self, tile: Tile, out: torch.Tensor) -> None:
        """Fill `out`, a uint8 tensor (tile.nbytes,) in host memory, with the tile's bytes.

        Raises `NotFiniteError` naming the tensor and its parents, `MisfitError` where tensors that
        are copied differ, and whatever a source raises.
        """
        root = tile.write.root
        if isinstance(root, Same):
            self._copy_equal(tile, root, out)
            return
        merged = self._fold(tile, root) if isinstance(root, Fold) else self._apply(tile, root)
        rounded = out.view(_torch_dtype(tile.write.dtype))
        if self._device.type == "cpu":
            round_into(merged.flatten(), rounded)
        else:
            staged = torch.empty_like(rounded, device=self._device)
            round_into(merged.flatten(), staged)
            rounded.copy_(staged)
        if not all_finite(rounded):
            raise NotFiniteError(_not_finite(tile, rounded))

    def _apply(self, tile: Tile, apply: Apply, base: torch.Tensor | None = None) -> torch.Tensor:
        compute = _torch_dtype_named(apply.compute)
        inputs = []
        for slot, node in enumerate(apply.inputs, start=1):
            read = node.source if isinstance(node, Delta) else node
            x = self._widened(tile, read, slot, compute)
            inputs.append(x.sub_(base) if base is not None else x)
        return methods()[apply.method].kernel(inputs, apply.params)

    def _fold(self, tile: Tile, fold: Fold) -> torch.Tensor:
        base = self._widened(tile, fold.base, 0, _torch_dtype_named(fold.delta.compute))
        return base.add_(self._apply(tile, fold.delta, base))

    def _widened(self, tile: Tile, read: Read, slot: int, compute: torch.dtype) -> torch.Tensor:
        raw = self._raw(tile, read, slot).view(_torch_dtype(read.info.dtype))
        if self._device.type == "cpu":
            wide = self._buffers.wide_for(slot, tile.count, compute)
            wide.copy_(raw)
        else:
            wide = raw.to(self._device, compute)
        whole = tile.count == tile.write.nbytes * 8 // DTYPES[tile.write.dtype].bits
        return wide.view(tile.write.shape) if whole else wide

    def _raw(self, tile: Tile, read: Read, slot: int) -> torch.Tensor:
        width = DTYPES[read.info.dtype].bits
        raw = self._buffers.raw_for(slot, tile.count * width // 8)
        into = raw.numpy().data
        self._sources[read.info.source].read(read.info, into, tile.start * width // 8)
        return raw

    def _copy_equal(self, tile: Tile, same: Same, out: torch.Tensor) -> None:
        first, *others = same.inputs
        out.copy_(self._raw(tile, first, 0))
        for other in others:
            if not torch.equal(out, self._raw(tile, other, 0)):
                raise MisfitError(
                    f"{shown(tile.write.name)} has dtype {tile.write.dtype}, which is copied and "
                    f"not merged, but differs between {first.info.source} and "
                    f"{other.info.source}; merge only models that agree in it"
                )


def _torch_dtype(name: str) -> torch.dtype:
    return _torch_dtype_named(DTYPES[name].torch_name)


def _torch_dtype_named(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)  # noqa: S101 -- the names come from our own table
    return dtype


def _not_finite(tile: Tile, rounded: torch.Tensor) -> str:
    at = int((~rounded.isfinite()).nonzero()[0]) + tile.start
    value = rounded[at - tile.start].item()
    parents = ", ".join(shown(r.info.source) for r in tile.write.reads())
    return (
        f"{shown(tile.write.name)}: element {at} of the result is {value}, made from {parents}; "
        f"every merged value must be a finite {DTYPES[tile.write.dtype].torch_name}. Look for NaN "
        "or infinity in these models, smaller weights, or an out_dtype with a wider range"
    )
