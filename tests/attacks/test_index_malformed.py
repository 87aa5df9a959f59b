"""Attack: an index that is no index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.sources import FolderSource
from mdm_kit.sources.shard_index import MAX_INDEX_BYTES

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


@pytest.mark.parametrize("weight_map", [None, [], {}, "one.safetensors", 1])
def test_no_weight_map(tmp_path: Path, weight_map: object) -> None:
    with pytest.raises(IntegrityError, match="expected a weight_map"):
        sharded(tmp_path, weight_map).headers()


@pytest.mark.parametrize("file", [None, 1, ["one.safetensors"], {"a": "b"}])
def test_file_that_is_no_text(tmp_path: Path, file: object) -> None:
    with pytest.raises(IntegrityError, match="tensor 'w': expected the name of a file"):
        sharded(tmp_path, {"w": file}).headers()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "{}x", "\ufeff{}", "[" * 100_000, '{"a":NaN}']
)
def test_text_that_is_no_index(tmp_path: Path, text: str) -> None:
    source = sharded(tmp_path, {})
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"model\.safetensors\.index\.json"):
        source.headers()


def test_too_large(tmp_path: Path) -> None:
    source = sharded(tmp_path, {})
    (tmp_path / "model.safetensors.index.json").write_bytes(b" " * (MAX_INDEX_BYTES + 1))
    with pytest.raises(IntegrityError, match="at most 25,000,000 bytes, found more"):
        source.headers()
