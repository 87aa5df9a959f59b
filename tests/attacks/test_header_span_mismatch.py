"""Attack: offsets that do not fit shape and dtype, or are no offsets."""

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


@pytest.mark.parametrize(
    ("dtype", "shape", "needs"),
    [("F32", [2, 2], 16), ("BF16", [3], 6), ("U8", [], 1), ("F64", [0, 9], 0), ("I16", [5], 10)],
)
def test_shape_times_dtype_is_not_the_span(
    tmp_path: Path, dtype: str, shape: list[int], needs: int
) -> None:
    header = {"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}}
    wanted = rf"tensor 'w': expected {needs} bytes of {dtype} in shape .* that span 4"
    with pytest.raises(IntegrityError, match=wanted):
        model_with(tmp_path, header, b"1234").headers()


@pytest.mark.parametrize(
    "offsets", [[0], [], [0, 1, 2], [0.0, 1], [True, 1], ["0", "1"], [None, 1], [[0], 1]]
)
def test_not_two_whole_numbers(tmp_path: Path, offsets: list[object]) -> None:
    header = {"w": {"dtype": "U8", "shape": [1], "data_offsets": offsets}}
    with pytest.raises(IntegrityError, match="expected data_offsets of two whole numbers"):
        model_with(tmp_path, header, b"1").headers()


@pytest.mark.parametrize("offsets", [[1, 0], [-1, 0], [-1, 1]])
def test_falling_or_negative(tmp_path: Path, offsets: list[int]) -> None:
    header = {"w": {"dtype": "U8", "shape": [1], "data_offsets": offsets}}
    with pytest.raises(IntegrityError, match="in rising order from 0"):
        model_with(tmp_path, header, b"1").headers()


@pytest.mark.parametrize(("dtype", "n"), [("F4", 1), ("F4", 3), ("F6_E2M3", 2), ("F6_E3M2", 1)])
def test_small_floats_that_end_within_a_byte(tmp_path: Path, dtype: str, n: int) -> None:
    header = {"w": {"dtype": dtype, "shape": [n], "data_offsets": [0, 1]}}
    with pytest.raises(IntegrityError, match="elements that fill whole bytes"):
        model_with(tmp_path, header, b"1").headers()


def test_small_floats_that_fill_bytes_are_legal(tmp_path: Path) -> None:
    header = {"w": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}
    assert model_with(tmp_path, header, b"123").headers().tensors["w"].nbytes == 3
