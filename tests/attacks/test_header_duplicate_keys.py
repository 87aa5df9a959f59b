"""Attack: one key twice, so that two readers see two models."""

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


def test_tensor_named_twice(tmp_path: Path) -> None:
    entry = json.dumps(u8(0, 1)).encode()
    text = b'{"w":' + entry + b',"w":' + entry + b"}"
    with pytest.raises(IntegrityError, match="every key once, found 'w' more than once"):
        model_with(tmp_path, text, b"1").headers()


@pytest.mark.parametrize("key", ["dtype", "shape", "data_offsets"])
def test_field_given_twice(tmp_path: Path, key: str) -> None:
    entry = json.dumps(u8(0, 1))
    again = entry.replace(f'"{key}"', f'"{key}": {json.dumps(u8(0, 1)[key])}, "{key}"', 1)
    text = f'{{"w": {again}}}'.encode()
    with pytest.raises(IntegrityError, match=f"'{key}' more than once"):
        model_with(tmp_path, text, b"1").headers()


def test_metadata_given_twice(tmp_path: Path) -> None:
    text = b'{"__metadata__":{"a":"1"},"__metadata__":{"a":"2"}}'
    with pytest.raises(IntegrityError, match="'__metadata__' more than once"):
        model_with(tmp_path, text).headers()


def test_key_twice_within_metadata(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="'a' more than once"):
        model_with(tmp_path, b'{"__metadata__":{"a":"1","a":"2"}}').headers()


def test_same_key_spelt_with_an_escape(tmp_path: Path) -> None:
    entry = json.dumps(u8(0, 1)).encode()
    text = b'{"w":' + entry + b',"\\u0077":' + entry + b"}"
    with pytest.raises(IntegrityError, match="'w' more than once"):
        model_with(tmp_path, text, b"1").headers()
