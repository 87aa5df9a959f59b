"""Attack: bytes between tensors that no tensor owns, a place to hide things."""

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


def u8(begin: int, end: int) -> dict[str, object]:
    return {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}


def test_hole_between_two_tensors(tmp_path: Path) -> None:
    header = {"a": u8(0, 2), "b": u8(3, 5)}
    with pytest.raises(IntegrityError, match=r"tensor 'b'.*it leaves a hole after 'a'"):
        model_with(tmp_path, header, b"12345").headers()


def test_hole_before_the_first_tensor(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"tensor 'a'.*it leaves a hole after the header"):
        model_with(tmp_path, {"a": u8(1, 2)}, b"12").headers()
