"""Attack: one tensor in two shards; which one is the model?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.sources import FolderSource

if TYPE_CHECKING:
    from pathlib import Path


def sharded(folder: Path, weight_map: object, **shards: str) -> FolderSource:
    """Write an index and shards; each shard is given as the names of its one-byte tensors."""
    for file, names in shards.items():
        entries = {
            name: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
            for i, name in enumerate(names)
        }
        text = json.dumps(entries).encode()
        data = len(text).to_bytes(8, "little") + text + b"x" * len(names)
        (folder / f"{file}.safetensors").write_bytes(data)
    index = json.dumps({"metadata": {"total_size": 3.0}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)
    return FolderSource("victim", folder)


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    weight_map = {"a": "one.safetensors", "b": "two.safetensors"}
    with pytest.raises(IntegrityError, match="tensors in two shards: 'a'"):
        sharded(tmp_path, weight_map, one="a", two="ba").headers()


def test_tensor_given_twice_in_the_index(tmp_path: Path) -> None:
    source = sharded(tmp_path, {}, one="a", two="a")
    text = '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(IntegrityError, match="every key once, found 'a' more than once"):
        source.headers()
