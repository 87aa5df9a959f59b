"""Attack: an index that lists a tensor its shard does not hold."""

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


def test_listed_but_nowhere(tmp_path: Path) -> None:
    weight_map = {"a": "one.safetensors", "b": "one.safetensors"}
    with pytest.raises(IntegrityError, match="their shard does not hold: 'b'"):
        sharded(tmp_path, weight_map, one="a").headers()


def test_listed_in_the_wrong_shard(tmp_path: Path) -> None:
    weight_map = {"a": "two.safetensors", "b": "one.safetensors"}
    with pytest.raises(IntegrityError, match="their shard does not hold: 'a', 'b'"):
        sharded(tmp_path, weight_map, one="a", two="b").headers()
