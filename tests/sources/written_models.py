"""Models for this folder's tests, written by the safetensors library itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

SAVED = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
}
"""Every dtype that both torch and words.DTYPES know, with its name in a header."""

shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
"""Scalars, empty tensors and odd shapes."""


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Return a tensor of any dtype with arbitrary bits, NaNs and signed zeros among them."""
    dtype, shape = draw(st.sampled_from(list(SAVED))), draw(shapes)
    n_bytes = torch.Size(shape).numel() * dtype.itemsize
    raw = draw(st.binary(min_size=n_bytes, max_size=n_bytes))
    if dtype is torch.bool:
        raw = bytes(b & 1 for b in raw)
    if not raw:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(dtype).reshape(shape)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda name: name != "__metadata__"
)

models = st.dictionaries(names, tensors(), max_size=6)


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """Return a tensor's bytes as they lie in a file."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def write_sharded(folder: Path, shards: dict[str, dict[str, torch.Tensor]]) -> None:
    """Write shards and the index transformers would write."""
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    for file, tensors in shards.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    total = sum(t.nbytes for tensors in shards.values() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
