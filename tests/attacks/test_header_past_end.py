"""Attack: a header or a tensor that reaches past the file's end."""

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


def test_header_longer_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((1000).to_bytes(8, "little") + b"{}")
    with pytest.raises(IntegrityError, match=r"victim.*header of 1,000 bytes.*10 bytes.*cut short"):
        FolderSource("victim", tmp_path).headers()


@pytest.mark.parametrize("nbytes", [0, 1, 7])
def test_file_shorter_than_the_length_field(tmp_path: Path, nbytes: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x02" * nbytes)
    with pytest.raises(IntegrityError, match=f"found only {nbytes} bytes"):
        FolderSource("victim", tmp_path).headers()


def test_length_of_zero(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="length of 0"):
        model_with(tmp_path, b"").headers()


def test_tensor_past_the_end(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"tensor 'w'.*within the file's 4 bytes.*\[0, 5\]"):
        model_with(tmp_path, {"w": u8(0, 5)}, b"1234").headers()


def test_data_behind_the_last_tensor(tmp_path: Path) -> None:
    """What no tensor owns could be anything."""
    with pytest.raises(IntegrityError, match="3 bytes belong to no tensor"):
        model_with(tmp_path, {"w": u8(0, 4)}, b"1234567").headers()


def test_data_but_no_tensor(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="found the end of the header"):
        model_with(tmp_path, {}, b"1").headers()
