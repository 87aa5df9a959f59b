"""An adapter's weight file: factors as they come, then whole modules, behind one header."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from torch import Tensor, uint8

from mdm_kit.sources import Source
from mdm_kit.sources.header_writing import written_header
from mdm_kit.words import OUT_DTYPES, TensorInfo

WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""How peft calls a transformers' model inside its own."""

Row = tuple[str, str, tuple[int, ...], int]
"""A tensor of the file: name, dtype, shape, bytes."""


class Factors:
    """Factors on disk, for the header before them is known when the last one is."""

    def __init__(self, file: BinaryIO) -> None:
        """Append to `file`, which is empty."""
        self._file = file
        self.rows: list[Row] = []

    def add(self, module: str, down: Tensor, up: Tensor) -> None:
        """Append the pair of a module: (r, in) and (out, r), contiguous and of one dtype."""
        self._append(f"{module}.lora_A.weight", down)
        self._append(f"{module}.lora_B.weight", up)

    def add_bias(self, module: str, bias: Tensor) -> None:
        """Append what is added to a module's bias: (out,)."""
        self._append(f"{module}.lora_B.bias", bias)

    def _append(self, name: str, numbers: Tensor) -> None:
        dtype = OUT_DTYPES[str(numbers.dtype).removeprefix("torch.")].name
        data = numbers.view(-1).view(uint8).numpy()
        self._file.write(data.data)
        self.rows.append((_PREFIX + name, dtype, tuple(numbers.shape), data.nbytes))


def write_weights(
    path: Path,
    factors: Factors,
    spilled: Path,
    saved: Sequence[tuple[str, TensorInfo]],
    model: Source,
) -> int:
    """Write the file of `factors`, which lie in `spilled`, and of whole modules; returns its bytes.

    `saved` are tensors of the model, which are copied as they are stored, by the name of each in
    transformers' model. Raises what the source raises, and OSError.
    """
    rows = [(f"{_PREFIX}{name}", t.dtype, t.shape, t.nbytes) for name, t in saved]
    with path.open("xb") as out:
        out.write(written_header([*factors.rows, *rows]))
        with spilled.open("rb") as file:
            shutil.copyfileobj(file, out)
        for _, info in saved:
            out.write(model.read(info))
        out.flush()
        os.fsync(out.fileno())
        return out.tell()
