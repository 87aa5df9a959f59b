"""Attack: tensor names that colour terminals, forge lines or flood logs. They are legal data."""

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


NASTY = [
    "",
    "a\nb",
    "\x1b[2J\x1b[31mred",
    "\u202egnp.exe",
    "../../etc/passwd",
    "w" * 10_000,
    "\0",
    "**b**",
]


@pytest.mark.parametrize("name", NASTY)
def test_read_as_it_is(tmp_path: Path, name: str) -> None:
    info = model_with(tmp_path, {name: u8(0, 2)}, b"ok").headers().tensors[name]
    assert info.name == name
    with FolderSource("victim", tmp_path) as source:
        assert bytes(source.read(info)) == b"ok"


@pytest.mark.parametrize("name", NASTY)
def test_escaped_and_cut_in_messages(tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        model_with(tmp_path, {name: u8(1, 2)}, b"ok").headers()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
