"""Memory: the same checks and the same answers as a file of the same tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from safetensors import deserialize
from written_models import SAVED, models, raw_bytes

from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.sources import FolderSource, MemorySource

if TYPE_CHECKING:
    from pathlib import Path


@settings(deadline=None, max_examples=50)
@given(models)
def test_holds_what_it_was_given(model: dict[str, torch.Tensor]) -> None:
    with MemorySource.from_tensors("m", model) as source:
        found = source.headers().tensors
        assert list(found) == list(model) or 0 in {t.numel() for t in model.values()}
        for name, tensor in model.items():
            assert found[name].shape == tuple(tensor.shape)
            assert found[name].dtype == SAVED[tensor.dtype]
            assert bytes(source.read(found[name])) == raw_bytes(tensor)


def test_is_a_file_safetensors_would_read(tmp_path: Path) -> None:
    source = MemorySource.from_tensors("m", {"a": torch.ones(3), "é\n": torch.zeros(2, 2)})
    assert {name for name, _ in deserialize(source._file)} == {"a", "é\n"}
    (tmp_path / "model.safetensors").write_bytes(source._file)
    with FolderSource("m", tmp_path) as folder:
        assert folder.headers() == source.headers()
        assert folder.fingerprint() == source.fingerprint()
        assert folder.file_digest("model.safetensors") == source.file_digest("model.safetensors")


def test_views_are_stored_as_they_look() -> None:
    grid = torch.arange(6).reshape(2, 3)
    source = MemorySource.from_tensors("m", {"t": grid.t(), "row": grid[1]})
    assert bytes(source.read(source.headers().tensors["t"])) == raw_bytes(grid.t().contiguous())


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [("F32", (2,), b"1234"), ("F9", (1,), b"1"), ("U8", (-1,), b""), ("F4", (1,), b"")],
)
def test_what_a_file_may_not_hold_is_refused(
    dtype: str, shape: tuple[int, ...], data: bytes
) -> None:
    with pytest.raises(IntegrityError, match="tensor 'w'"):
        MemorySource("m", {"w": (dtype, shape, data)}).headers()


def test_witness_is_of_all_bytes() -> None:
    def witness(value: float, config: bytes) -> str:
        tensors = {"w": torch.full((100_000,), 1.0)}
        tensors["w"][4321] = value
        return MemorySource.from_tensors("m", tensors, {"config.json": config}).witness()

    assert witness(1.0, b"{}") == witness(1.0, b"{}")
    assert len({witness(1.0, b"{}"), witness(1.5, b"{}"), witness(1.0, b"{ }")}) == 3


def test_side_files() -> None:
    source = MemorySource("m", {}, {"tokenizer.json": b"t", "config.json": b"c"})
    assert source.side_files() == ("config.json", "tokenizer.json")
    assert source.side_file("config.json") == b"c"
    assert source.side_file("vocab.txt") is None
    with pytest.raises(UsageError, match="not a side file"):
        MemorySource("m", {}, {"modeling.py": b""})


def test_closed() -> None:
    source = MemorySource("m", {"w": ("U8", (1,), b"x")})
    info = source.headers().tensors["w"]
    source.close()
    with pytest.raises(UsageError, match="was closed"):
        source.read(info)


def test_dtype_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="complex128"):
        MemorySource.from_tensors("m", {"w": torch.zeros(1, dtype=torch.complex128)})


def test_origin() -> None:
    assert MemorySource("m", {}).origin().kind == "memory"
