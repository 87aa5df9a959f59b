"""Attack: a dtype nobody knows, or no text at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.sources import FolderSource

if TYPE_CHECKING:
    from pathlib import Path


def model_with(folder: Path, header: object, data: bytes = b"") -> FolderSource:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = len(text).to_bytes(8, "little") + text + data
    (folder / "model.safetensors").write_bytes(file)
    return FolderSource("victim", folder)


@pytest.mark.parametrize("dtype", ["F5", "", "f32", "BF16 ", "Q4_K_M", "F32\x1b[31m"])
def test_unknown_name(tmp_path: Path, dtype: str) -> None:
    header = {"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}
    with pytest.raises(IntegrityError, match="expected a dtype of the safetensors") as caught:
        model_with(tmp_path, header, b"1").headers()
    assert "tensor 'w'" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("dtype", [None, 1, ["U8"], {"U8": 1}, True])
def test_no_text(tmp_path: Path, dtype: object) -> None:
    header = {"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}
    with pytest.raises(IntegrityError, match="expected a dtype of the safetensors"):
        model_with(tmp_path, header, b"1").headers()
