"""Attack: numbers JSON does not have, or of a million digits."""

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


def with_offset(text: str) -> bytes:
    return f'{{"w": {{"dtype": "U8", "shape": [1], "data_offsets": [0, {text}]}}}}'.encode()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_not_finite(tmp_path: Path, text: str) -> None:
    with pytest.raises(IntegrityError, match="expected a finite number"):
        model_with(tmp_path, with_offset(text), b"1").headers()


@pytest.mark.parametrize("n_digits", [21, 5000, 1_000_000])
def test_huge_integer(tmp_path: Path, n_digits: int) -> None:
    """Reading it as a number would take minutes; counting its digits does not."""
    with pytest.raises(IntegrityError, match=f"at most 20 digits, found one of {n_digits}"):
        model_with(tmp_path, with_offset("9" * n_digits), b"1").headers()


def test_huge_fraction(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="expected a finite number"):
        model_with(tmp_path, with_offset("0." + "1" * 100_000), b"1").headers()


def test_minus_zero(tmp_path: Path) -> None:
    """A fraction to safetensors, a zero to Python: two readers, two answers."""
    text = b'{"w": {"dtype": "U8", "shape": [-0], "data_offsets": [0, 0]}}'
    with pytest.raises(IntegrityError, match="expected a whole number, found -0"):
        model_with(tmp_path, text).headers()


@pytest.mark.parametrize("text", ["1.0", "1e0", "01", "+1", "0x1", "1_000"])
def test_not_a_whole_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(IntegrityError):
        model_with(tmp_path, with_offset(text), b"1").headers()
