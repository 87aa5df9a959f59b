"""Attack: an index that names files outside the model's folder, or no weights."""

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


@pytest.mark.parametrize(
    "file",
    [
        "../secret.safetensors",
        "a/../../secret.safetensors",
        "..\\secret.safetensors",
        "/etc/secret.safetensors",
        "\\\\server\\share\\secret.safetensors",
        "C:secret.safetensors",
        "C:\\secret.safetensors",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "nul.safetensors",
        "a\0.safetensors",
        "a\n.safetensors",
        "\u202esrotsnetefas.safetensors",
        "a.safetensors ",
        "a.safetensors.",
        "",
        "~",
        "model.safetensors:hidden",
        "pytorch_model.bin",
        "model.safetensors.py",
        "x" * 300 + ".safetensors",
    ],
)
def test_never_opened(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"not to be read")
    with pytest.raises(IntegrityError, match="victim") as caught:
        sharded(folder, {"w": file}).headers()
    message = str(caught.value)
    assert "expected a plain file name" in message or "name .safetensors files" in message
    assert message.isprintable()
