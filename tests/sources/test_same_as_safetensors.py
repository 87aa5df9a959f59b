"""Whatever safetensors writes is read alike: names, shapes, dtypes, metadata and every byte."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize, safe_open
from safetensors.torch import load_file, save_file
from written_models import SAVED, models, raw_bytes, write_sharded

from mdm_kit.sources import FolderSource, MemorySource
from mdm_kit.words import DTYPES


@settings(deadline=None, max_examples=60)
@given(models, st.dictionaries(st.text("abc", max_size=3), st.text(max_size=5), max_size=3))
def test_one_file(model: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.safetensors"
        save_file(model, path, metadata=metadata or None)
        with FolderSource("m", name) as source:
            found = source.headers()
            assert set(found.tensors) == set(model)
            assert dict(found.metadata) == metadata
            assert found.nbytes == path.stat().st_size
            for key, tensor in model.items():
                info = found.tensors[key]
                assert (info.name, info.source, info.file) == (key, "m", "model.safetensors")
                assert info.shape == tuple(tensor.shape)
                assert info.dtype == SAVED[tensor.dtype]
                assert info.nbytes == tensor.nbytes == info.span[1] - info.span[0]
                assert bytes(source.read(info)) == raw_bytes(tensor)
            starts = [info.span for info in found.tensors.values()]
            assert starts == sorted(starts)


@settings(deadline=None, max_examples=20)
@given(models, st.randoms(use_true_random=False))
def test_sharded(model: dict[str, torch.Tensor], random: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        files = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
        shards: dict[str, dict[str, torch.Tensor]] = {"model-00001-of-00003.safetensors": {}}
        shards[files[0]]["anchor"] = torch.zeros(1)
        for key, tensor in model.items():
            shards.setdefault(random.choice(files), {})[key] = tensor  # type: ignore[attr-defined]
        write_sharded(Path(name), shards)
        with FolderSource("m", name) as source:
            found = source.headers()
            assert [f.name for f in found.files] == sorted(shards)
            assert list(found.tensors) == [
                key
                for file in sorted(shards)
                for key, _ in sorted(
                    ((i.name, i.span) for i in found.tensors.values() if i.file == file),
                    key=lambda pair: (*pair[1], pair[0]),
                )
            ]
            for file, tensors in shards.items():
                reference = load_file(Path(name) / file)
                for key in tensors:
                    info = found.tensors[key]
                    assert info.file == file
                    assert bytes(source.read(info)) == raw_bytes(reference[key])


@pytest.mark.parametrize("dtype", SAVED, ids=str)
def test_every_dtype_agrees_with_safe_open(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).to(torch.float32).to(dtype).reshape(2, 3)
    save_file({"w": tensor}, tmp_path / "model.safetensors")
    with (
        FolderSource("m", tmp_path) as source,
        safe_open(tmp_path / "model.safetensors", "pt") as theirs,
    ):
        info = source.headers().tensors["w"]
        part = theirs.get_slice("w")
        assert info.dtype == part.get_dtype()
        assert list(info.shape) == part.get_shape()
        assert bytes(source.read(info)) == raw_bytes(theirs.get_tensor("w"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_the_format_has_its_width(dtype: str) -> None:
    """The widths in words.DTYPES against those of the safetensors library itself."""
    n = 8
    data = bytes(n * DTYPES[dtype].bits // 8)
    source = MemorySource("m", {"w": (dtype, (n,), data)})
    ((name, theirs),) = deserialize(source._file)
    info = source.headers().tensors[name]
    assert (info.dtype, list(info.shape)) == (theirs["dtype"], theirs["shape"])
    assert bytes(source.read(info)) == bytes(theirs["data"])
