"""Attack: a header so large that reading it is the harm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.sources import FolderSource
from mdm_kit.sources.safetensors_header import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def model_with(folder: Path, header: object, data: bytes = b"") -> FolderSource:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = len(text).to_bytes(8, "little") + text + data
    (folder / "model.safetensors").write_bytes(file)
    return FolderSource("victim", folder)


def test_length_field_of_petabytes(tmp_path: Path) -> None:
    """Refused from the length field alone: nothing is allocated for it."""
    (tmp_path / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(
        IntegrityError, match=r"at most 25,000,000 bytes.*4,611,686,018,427,387,904"
    ):
        FolderSource("victim", tmp_path).headers()


def test_one_byte_over_the_limit(tmp_path: Path) -> None:
    text = b"{}".ljust(MAX_HEADER_BYTES + 1)
    with pytest.raises(IntegrityError, match="25,000,001"):
        model_with(tmp_path, text).headers()


def test_limit_itself_is_read(tmp_path: Path) -> None:
    assert model_with(tmp_path, b"{}".ljust(MAX_HEADER_BYTES)).headers().tensors == {}
