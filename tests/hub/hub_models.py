"""Model repositories for these tests: small files with large enough weights to notice."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save

WEIGHT_BYTES = 4_000_000


def one_file(seed: int = 0, nbytes: int = WEIGHT_BYTES) -> dict[str, bytes]:
    """Return a model of one file, its weights `nbytes` long, a config and what is not copied."""
    values = np.random.default_rng(seed).integers(0, 2**32, nbytes // 4, dtype=np.uint32)
    return {
        "config.json": json.dumps({"seed": seed}).encode(),
        "README.md": b"# not copied",
        "modeling_evil.py": b"raise SystemExit",
        "model.safetensors": save({"big": values.view(np.float32), "small": np.arange(3.0)}),
    }


def sharded() -> dict[str, bytes]:
    """Return a model of two shards of 2 MB each, with an index and a tokenizer."""
    files, weight_map = {}, {}
    for i in (1, 2):
        name = f"model-0000{i}-of-00002.safetensors"
        tensors = {f"layer.{i}.weight": np.full((500_000,), i, np.float32)}
        files[name] = save(tensors)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 4_000_000}, "weight_map": weight_map}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["tokenizer.json"] = b"{}"
    files["additional_chat_templates/tool.jinja"] = b"{{ x }}"
    return files


def long_header() -> dict[str, bytes]:
    """Return a model whose header is longer than the first request."""
    many = {f"layer.{i}.{'x' * 60}": np.zeros(16, np.float32) for i in range(2000)}
    return {"model.safetensors": save(many)}
