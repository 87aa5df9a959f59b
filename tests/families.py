"""Model families for tests: folders as fine-tuners publish them, small and odd."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Spec = Mapping[str, tuple[tuple[int, ...], torch.dtype]]

ODD: Spec = {
    "model.embed_tokens.weight": ((37, 8), torch.bfloat16),
    "model.layers.0.attn.q.weight": ((8, 8), torch.bfloat16),
    "model.layers.0.mlp.up.weight": ((24, 8), torch.float16),
    "model.layers.0.norm.weight": ((8,), torch.float32),
    "model.layers.1.attn.q.weight": ((8, 8), torch.bfloat16),
    "model.layers.1.mlp.up.weight": ((24, 8), torch.float16),
    "model.layers.1.norm.weight": ((8,), torch.float32),
    "model.layers.2.attn.q.weight": ((8, 8), torch.bfloat16),
    "model.layers.2.mlp.up.weight": ((24, 8), torch.float16),
    "model.layers.2.norm.weight": ((8,), torch.float32),
    "model.scale": ((), torch.float32),
    "model.empty": ((0, 5), torch.float32),
    "model.wide": ((1, 1001), torch.float64),
    "model.cube": ((3, 5, 7), torch.bfloat16),
    "model.position_ids": ((11,), torch.int64),
    "model.mask": ((4, 4), torch.bool),
}
"""Odd shapes, every mergeable dtype, a scalar, an empty tensor, integer and boolean buffers."""


def random_tensor(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)
    n = max(1, torch.Size(shape).numel())
    return (
        (torch.arange(n) % 2 if dtype is torch.bool else torch.arange(n)).reshape(shape).to(dtype)
    )


def tensors(spec: Spec, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: random_tensor(shape, dtype, generator) for name, (shape, dtype) in spec.items()}


def fine_tuned(base: Mapping[str, Tensor], seed: int, size: float = 0.02) -> dict[str, Tensor]:
    """Each floating tensor moved by a random step of relative size `size`."""
    generator = torch.Generator().manual_seed(seed)
    moved = {}
    for name, t in base.items():
        if t.dtype.is_floating_point:
            step = torch.randn(t.shape, generator=generator, dtype=torch.float64)
            moved[name] = (t.double() + size * step).to(t.dtype)
        else:
            moved[name] = t.clone()
    return moved


def write_model(
    folder: Path,
    model: Mapping[str, Tensor],
    *,
    n_shards: int = 1,
    config: Mapping[str, object] | None = None,
    side_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a model as transformers would: one file, or shards with an index."""
    folder.mkdir(parents=True)
    if n_shards == 1:
        save_file(dict(model), folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {}
        for i in range(n_shards):
            part = {n: t for k, (n, t) in enumerate(model.items()) if k % n_shards == i}
            name = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
            save_file(part, folder / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, name)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    for name, data in (side_files or {}).items():
        (folder / name).write_bytes(data)
    return folder


def write_family(
    root: Path, spec: Spec = ODD, n: int = 2, seed: int = 0, n_shards: int = 1
) -> dict[str, dict[str, Tensor]]:
    """Write `base` and fine-tunes `m1`, `m2`, ... under `root`; return their tensors."""
    base = tensors(spec, seed)
    models = {"base": base}
    models |= {f"m{i}": fine_tuned(base, seed + i) for i in range(1, n + 1)}
    config = {"model_type": "llama", "torch_dtype": "bfloat16"}
    for i, (name, model) in enumerate(models.items()):
        write_model(root / name, model, n_shards=n_shards if i % 2 else 1, config=config)
    return models


def read_model(folder: Path) -> dict[str, Tensor]:
    """Read a folder's tensors with the safetensors library."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found |= load_file(path)
    return found
