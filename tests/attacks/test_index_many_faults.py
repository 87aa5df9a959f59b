"""Attack: everything wrong at once; told at once, and in bounded length."""

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


def test_all_kinds_in_one_message(tmp_path: Path) -> None:
    weight_map = {
        "a": "one.safetensors",
        "b": "two.safetensors",
        "c": "one.safetensors",
        "d": "gone.safetensors",
    }
    with pytest.raises(IntegrityError) as caught:
        sharded(tmp_path, weight_map, one="ax", two="ba").headers()
    message = str(caught.value)
    assert "absent: 'gone.safetensors'" in message
    assert "two shards: 'a'" in message
    assert "does not hold: 'c'" in message
    assert "not in the index: 'x'" in message


def test_thousands_are_counted_not_listed(tmp_path: Path) -> None:
    weight_map = {"a": "one.safetensors"} | {f"t{i}": "one.safetensors" for i in range(3000)}
    with pytest.raises(IntegrityError, match="and 2990 more") as caught:
        sharded(tmp_path, weight_map, one="a").headers()
    assert len(str(caught.value)) < 1000
