"""A folder: reads in parts and from threads, changes noticed, nothing left open."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from written_models import raw_bytes, write_sharded

from mdm_kit.errors import IntegrityError, SourceError, UsageError
from mdm_kit.sources import FolderSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    shards = {
        f"model-0000{i}-of-00004.safetensors": {
            f"layer.{i}.weight": torch.randn(50, 7),
            f"layer.{i}.bias": torch.randn(7, dtype=torch.float64),
        }
        for i in (1, 2, 3, 4)
    }
    write_sharded(tmp_path, shards)
    (tmp_path / "config.json").write_text('{"hidden_size": 7}')
    return tmp_path


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def test_files_and_digests(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        for file in source.headers().files:
            data = (folder / file.name).read_bytes()
            n = int.from_bytes(data[:8], "little")
            assert file.nbytes == len(data)
            assert file.header_nbytes == 8 + n
            assert file.header_sha256 == hashlib.sha256(data[8 : 8 + n]).hexdigest()
            assert (file.sha256, file.in_cache) == (None, True)
            assert source.file_digest(file.name) == hashlib.sha256(data).hexdigest()


def test_digest_of_a_file_longer_than_the_buffer(tmp_path: Path) -> None:
    save_file({"w": torch.arange(1_100_000)}, tmp_path / "model.safetensors")
    with FolderSource("m", tmp_path) as source:
        whole = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
        assert source.file_digest("model.safetensors") == whole


def test_digest_of_another_file_is_refused(folder: Path) -> None:
    with FolderSource("m", folder) as source, pytest.raises(UsageError, match="not a weight file"):
        source.file_digest("config.json")


def test_headers_are_read_once(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        assert source.headers() is source.headers()
        assert dict(source.headers().metadata) == {"format": "pt"}


@pytest.mark.parametrize(("start", "length"), [(0, 0), (0, 1), (3, 100), (1399, 1), (1400, 0)])
def test_parts_of_a_tensor(folder: Path, start: int, length: int) -> None:
    with FolderSource("m", folder) as source:
        info = source.headers().tensors["layer.2.weight"]
        into = bytearray(length)
        view = source.read(info, into, start)
        assert bytes(into) == bytes(view) == bytes(source.read(info))[start : start + length]


def test_without_a_buffer_the_rest_is_returned(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        info = source.headers().tensors["layer.2.weight"]
        assert bytes(source.read(info, start=1000)) == bytes(source.read(info))[1000:]


def test_into_a_tensor_of_torch(folder: Path) -> None:
    """The executor reads into pages it owns; a view of any item size is filled."""
    with FolderSource("m", folder) as source:
        info = source.headers().tensors["layer.1.weight"]
        out = torch.empty(50, 7)
        source.read(info, memoryview(out.numpy()).cast("B"))
        assert raw_bytes(out) == bytes(source.read(info))


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 1401), (1400, 1), (5000, 0)])
def test_outside_the_tensor_is_refused(folder: Path, start: int, length: int) -> None:
    with FolderSource("m", folder) as source:
        info = source.headers().tensors["layer.2.weight"]
        with pytest.raises(UsageError, match="expected a range within its 1,400 bytes"):
            source.read(info, bytearray(length), start)


def test_tensor_of_another_model_is_refused(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        info = source.headers().tensors["layer.2.weight"]
        for wrong in (
            replace(info, name="layer.9.weight"),
            replace(info, file="model-00001-of-00004.safetensors"),
            replace(info, span=(0, 1400)),
        ):
            with pytest.raises(UsageError, match="not a tensor of this model"):
                source.read(wrong)


def test_many_threads_read_what_one_reads(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        tensors = list(source.headers().tensors.values()) * 25
        alone = [bytes(source.read(info)) for info in tensors]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda info: bytes(source.read(info)), tensors)) == alone


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_one_descriptor_per_file_and_none_after(folder: Path) -> None:
    before = descriptors()
    with FolderSource("m", folder) as source:
        for _ in range(3):
            for info in source.headers().tensors.values():
                source.read(info)
        assert descriptors() == before + 4
    assert descriptors() == before


def test_closed_twice_and_read_no_more(folder: Path) -> None:
    source = FolderSource("m", folder)
    info = source.headers().tensors["layer.1.bias"]
    source.close()
    source.close()
    with pytest.raises(UsageError, match="was closed"):
        source.read(info)


def test_file_cut_short_after_the_headers(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        file = folder / "model-00003-of-00004.safetensors"
        infos = [i for i in source.headers().tensors.values() if i.file == file.name]
        os.truncate(file, infos[-1].span[1] - 3)
        assert len(source.read(infos[0])) == infos[0].nbytes
        with pytest.raises(IntegrityError, match=r"model-00003.*cut short"):
            source.read(infos[-1])


def test_file_gone_before_it_is_read(folder: Path) -> None:
    (folder / "model-00003-of-00004.safetensors").unlink()
    with FolderSource("m", folder) as source, pytest.raises(IntegrityError, match="absent"):
        source.headers()


def test_witness_follows_every_change(folder: Path) -> None:
    def witness() -> str:
        with FolderSource("m", folder) as source:
            return source.witness()

    seen = [witness()]
    assert witness() == seen[0]
    shard = folder / "model-00001-of-00004.safetensors"
    data = shard.read_bytes()
    os.utime(shard, ns=(1, 1))
    seen.append(witness())
    replacement = folder / "new"
    replacement.write_bytes(data)
    os.utime(replacement, ns=(1, 1))
    replacement.replace(shard)  # same size, same time, another inode
    seen.append(witness())
    (folder / "config.json").write_text("{}")
    seen.append(witness())
    (folder / "tokenizer.json").write_text("{}")
    seen.append(witness())
    (folder / "README.md").write_text("not part of the model")
    assert witness() == seen[-1]
    assert len(set(seen)) == 5


def test_fingerprint_is_of_content_not_of_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.glob("*.*"):
        (copy / file.name).write_bytes(file.read_bytes())
        os.utime(copy / file.name, ns=(5, 5))
    with FolderSource("a", folder) as one, FolderSource("b", copy) as two:
        assert one.fingerprint() == two.fingerprint()
        assert one.witness() != two.witness()
        assert one.fingerprint().startswith("sha256:")


def test_fingerprint_follows_a_flipped_bit(folder: Path) -> None:
    with FolderSource("m", folder) as source:
        before = source.fingerprint()
    shard = folder / "model-00002-of-00004.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with FolderSource("m", folder) as source:
        assert source.fingerprint() != before


def test_origin_is_the_real_path(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder)
    origin = FolderSource("m", tmp_path / "alias").origin()
    assert (origin.kind, origin.path, origin.repo) == ("folder", str(folder.resolve()), None)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found none"):
        FolderSource("m", tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="found a file"):
        FolderSource("m", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_nobody_may_read(folder: Path) -> None:
    (folder / "model-00001-of-00004.safetensors").chmod(0)
    with FolderSource("m", folder) as source, pytest.raises(SourceError, match="may not read"):
        source.headers()


def test_a_single_file_wins_over_an_index(folder: Path) -> None:
    """As transformers decides; the index may be left from another save."""
    save_file({"w": torch.zeros(2)}, folder / "model.safetensors")
    with FolderSource("m", folder) as source:
        assert list(source.headers().tensors) == ["w"]


def test_metadata_of_the_first_file_wins(tmp_path: Path) -> None:
    for file, value in (("a", "first"), ("b", "second")):
        path = tmp_path / f"{file}.safetensors"
        save_file({file: torch.zeros(1)}, path, metadata={"k": value, file: "own"})
    index = {"weight_map": {"b": "b.safetensors", "a": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with FolderSource("m", tmp_path) as source:
        assert dict(source.headers().metadata) == {"k": "first", "a": "own", "b": "own"}
