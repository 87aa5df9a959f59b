"""Attack: two tensors share bytes, so that a small file unfolds into a huge model."""

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


def test_one_byte_shared(tmp_path: Path) -> None:
    header = {"a": u8(0, 4), "b": u8(3, 7)}
    with pytest.raises(
        IntegrityError, match=r"tensor 'b'.*at byte \d+, found byte \d+: it overlaps 'a'"
    ):
        model_with(tmp_path, header, b"1234567").headers()


def test_the_same_span_twice(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="it overlaps 'a'"):
        model_with(tmp_path, {"a": u8(0, 4), "b": u8(0, 4)}, b"1234").headers()


def test_empty_tensor_inside_another(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"tensor 'e'.*it overlaps 'a'"):
        model_with(tmp_path, {"a": u8(0, 4), "e": u8(2, 2)}, b"1234").headers()


def test_empty_tensors_between_others_are_legal(tmp_path: Path) -> None:
    header = {"e": u8(0, 0), "a": u8(0, 4), "f": u8(4, 4), "b": u8(4, 5), "g": u8(5, 5)}
    assert list(model_with(tmp_path, header, b"12345").headers().tensors) == list("eafbg")
