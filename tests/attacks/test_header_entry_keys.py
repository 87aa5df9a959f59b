"""Attack: an entry with keys missing, or with more than the format has."""

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


@pytest.mark.parametrize("key", ["dtype", "shape", "data_offsets"])
def test_key_missing(tmp_path: Path, key: str) -> None:
    entry = {k: v for k, v in u8(0, 1).items() if k != key}
    with pytest.raises(IntegrityError, match="tensor 'w': expected exactly the keys dtype, shape"):
        model_with(tmp_path, {"w": entry}, b"1").headers()


def test_key_too_many(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"expected exactly the keys.*'strides'"):
        model_with(tmp_path, {"w": {**u8(0, 1), "strides": [1]}}, b"1").headers()


@pytest.mark.parametrize("entry", [None, 1, "x", [], ["U8", [1], [0, 1]], True])
def test_entry_that_is_no_object(tmp_path: Path, entry: object) -> None:
    """safetensors itself reads the list form; nobody writes it."""
    with pytest.raises(IntegrityError, match="tensor 'w': expected an object"):
        model_with(tmp_path, {"w": entry}, b"1").headers()


def test_header_that_is_itself_an_entry(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="found one tensor without a name"):
        model_with(tmp_path, u8(0, 1), b"1").headers()


@pytest.mark.parametrize("metadata", [None, [], "x", 1, u8(0, 1)])
def test_metadata_that_is_no_map(tmp_path: Path, metadata: object) -> None:
    with pytest.raises(IntegrityError, match="expected __metadata__ to map texts to texts"):
        model_with(tmp_path, {"__metadata__": metadata}).headers()


@pytest.mark.parametrize("value", [None, 1, ["x"], {"a": "b"}])
def test_metadata_value_that_is_no_text(tmp_path: Path, value: object) -> None:
    with pytest.raises(IntegrityError, match="expected text under __metadata__ key 'format'"):
        model_with(tmp_path, {"__metadata__": {"format": value}}).headers()
