"""Attack: a tensor in a shard that the index keeps quiet about."""

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


def test_present_but_unlisted(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="in a shard but not in the index: 'b'"):
        sharded(tmp_path, {"a": "one.safetensors"}, one="ab").headers()


def test_shard_the_index_does_not_name_is_not_read(tmp_path: Path) -> None:
    """A file beside the model is not part of it: a ledger, another precision."""
    source = sharded(tmp_path, {"a": "one.safetensors"}, one="a", two="z")
    assert list(source.headers().tensors) == ["a"]
