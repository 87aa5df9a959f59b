"""Attack: brackets nested until the reader's stack is gone."""

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


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", [900, 5_000, 1_000_000])
def test_bottomless(tmp_path: Path, opened: bytes, closed: bytes, depth: int) -> None:
    inner = opened * depth + b"0" + closed * depth
    entry = b'{"dtype": "U8", "data_offsets": [0, 1], "shape": [' + inner + b"]}"
    with pytest.raises(IntegrityError, match="victim"):
        model_with(tmp_path, b'{"w": ' + entry + b"}", b"1").headers()


def test_never_closed(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="victim"):
        model_with(tmp_path, b'{"w": ' + b"[" * 100_000 + b"}", b"1").headers()
