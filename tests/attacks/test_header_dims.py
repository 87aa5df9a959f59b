"""Attack: dimensions that are negative, huge, too many, or no numbers."""

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


def header_of(shape: object, end: int = 1) -> dict[str, object]:
    return {"w": {"dtype": "U8", "shape": shape, "data_offsets": [0, end]}}


@pytest.mark.parametrize("shape", [[-1], [1, -1], [-1, -1], [1.0], [True], ["1"], [None], [[1]]])
def test_not_a_dimension(tmp_path: Path, shape: list[object]) -> None:
    wanted = "tensor 'w': expected dimensions that are whole and not negative"
    with pytest.raises(IntegrityError, match=wanted):
        model_with(tmp_path, header_of(shape), b"1").headers()


@pytest.mark.parametrize(
    "shape",
    [[2**63], [2**32, 2**32], [2**64 - 1, 2**64 - 1, 0], [0, 2**63, 2], [2**22] * 3],
)
def test_product_that_overflows(tmp_path: Path, shape: list[int]) -> None:
    """Also beside a zero, where a reader that multiplies in turn overflows before it sees it."""
    end = 0 if 0 in shape else 1
    with pytest.raises(IntegrityError, match="expected a shape that fits into a file"):
        model_with(tmp_path, header_of(shape, end), b"1" * end).headers()


def test_too_many_dimensions(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="expected at most 64 dimensions, found 65"):
        model_with(tmp_path, header_of([1] * 65), b"1").headers()


def test_as_many_dimensions_as_allowed(tmp_path: Path) -> None:
    assert model_with(tmp_path, header_of([1] * 64), b"1").headers().tensors["w"].n_elements == 1


@pytest.mark.parametrize("shape", ["1", 1, None, {"0": 1}])
def test_shape_that_is_no_list(tmp_path: Path, shape: object) -> None:
    with pytest.raises(IntegrityError, match="expected a list for shape"):
        model_with(tmp_path, header_of(shape), b"1").headers()
