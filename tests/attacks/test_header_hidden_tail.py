"""Attack: something before or behind the JSON that other readers skip."""

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


@pytest.mark.parametrize("tail", [b"\0", b"\0\0 ", b"\n", b"\t ", b"x", b"{}", b" #!/bin/sh"])
def test_anything_but_spaces_behind_it(tmp_path: Path, tail: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"header: expected"):
        model_with(tmp_path, b"{}" + tail).headers()


@pytest.mark.parametrize("lead", [b" ", b"\n", b"\xef\xbb\xbf", b"[", b'"', b"PK\x03\x04", b"GGUF"])
def test_anything_before_the_brace(tmp_path: Path, lead: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"expected '\{' as its first byte"):
        model_with(tmp_path, lead + b"{}").headers()


def test_spaces_behind_it_are_the_formats_padding(tmp_path: Path) -> None:
    assert model_with(tmp_path, b"{}      ").headers().tensors == {}


@pytest.mark.parametrize("text", [b'{"\xff": 1}', b'{"a\xc3": 1}', b"{}".decode().encode("utf-16")])
def test_not_utf8(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(IntegrityError):
        model_with(tmp_path, text).headers()


@pytest.mark.parametrize("name", [rb"\ud800", rb"a\uDFFFb", rb"\udc00\ud800"])
def test_half_a_surrogate_pair(tmp_path: Path, name: bytes) -> None:
    """A name that cannot be written back as UTF-8."""
    text = b'{"' + name + b'":' + json.dumps(u8(0, 1)).encode() + b"}"
    with pytest.raises(IntegrityError, match="half a surrogate pair"):
        model_with(tmp_path, text, b"1").headers()


def test_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    text = rb'{"\ud83d\ude00":' + json.dumps(u8(0, 1)).encode() + b"}"
    assert list(model_with(tmp_path, text, b"1").headers().tensors) == ["\U0001f600"]
