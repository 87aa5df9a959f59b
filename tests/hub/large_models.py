"""Models of many megabytes, in folders that a Hub serves and a local merge reads alike."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("base", "a", "b")
MEMORY = ("--max-memory", "64MB", "--threads", "2")
"""Windows are 2 MiB then: an eighth of the least that is fetched ahead."""
WINDOW_NBYTES = 2 << 20

Tensors = list[tuple[str, np.ndarray]]


def stored(tensors: Tensors) -> bytes:
    """Return a safetensors file that holds them in this very order, as float16."""
    header: dict[str, object] = {}
    at = 0
    for name, values in tensors:
        header[name] = {
            "dtype": "F16",
            "shape": list(values.shape),
            "data_offsets": [at, at + values.nbytes],
        }
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(v.tobytes() for _, v in tensors)])


def write_model(folder: Path, tensors: Tensors, cuts: Sequence[int] = ()) -> None:
    """Write a model in one file, or in shards that end before the tensors `cuts` names."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if not cuts:
        (folder / "model.safetensors").write_bytes(stored(tensors))
        return
    ends, weight_map = [0, *cuts, len(tensors)], {}
    for i, (begin, end) in enumerate(pairwise(ends), start=1):
        name = f"model-{i:05d}-of-{len(ends) - 1:05d}.safetensors"
        (folder / name).write_bytes(stored(tensors[begin:end]))
        weight_map |= {tensor: name for tensor, _ in tensors[begin:end]}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def moved(tensors: Tensors, seed: int) -> Tensors:
    """Return a fine-tune of a model."""
    values = np.random.default_rng(seed)
    return [
        (n, (t + 0.01 * values.standard_normal(t.shape, np.float32)).astype(np.float16))
        for n, t in tensors
    ]


def base_tensors(n_layers: int, n_elements: int) -> Tensors:
    """Return a base: in each layer a large tensor, a middling and a small one."""
    values = np.random.default_rng(0)
    sizes = {"mlp": n_elements, "attention": n_elements // 4, "norm": 160}
    return [
        (
            f"model.layers.{i}.{name}.weight",
            values.standard_normal((16, n // 16), np.float32).astype(np.float16),
        )
        for i in range(n_layers)
        for name, n in sizes.items()
    ]


def write_plain(root: Path) -> None:
    """Write three models of one file each, 21 MB, whose tensors stand in the same order."""
    base = base_tensors(6, 1_400_000)
    for seed, name in enumerate(MODELS):
        write_model(root / name, moved(base, seed) if seed else base)


def write_mixed(root: Path) -> None:
    """Write three models whose shards and orders differ: as it comes, sorted, shuffled."""
    base = base_tensors(12, 700_000)
    write_model(root / "base", base, cuts=(7, 20))
    by_name = sorted(moved(base, 1))
    write_model(root / "a", by_name, cuts=(3, 4, 11, 30))
    shuffled = moved(base, 2)
    random.Random(1).shuffle(shuffled)
    write_model(root / "b", shuffled)
