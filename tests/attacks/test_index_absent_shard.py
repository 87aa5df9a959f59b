"""Attack: an index whose shard is not there."""

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


def test_absent_shard_is_named(tmp_path: Path) -> None:
    source = sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, one="a")
    with pytest.raises(IntegrityError, match=r"absent: 'two\.safetensors'") as caught:
        source.headers()
    assert "'b'" not in str(caught.value)  # its tensors are the same news again


def test_link_to_nowhere_is_an_absent_shard(tmp_path: Path) -> None:
    source = sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, one="a")
    (tmp_path / "two.safetensors").symlink_to("three.safetensors")
    with pytest.raises(IntegrityError, match=r"absent: 'two\.safetensors'"):
        source.headers()
