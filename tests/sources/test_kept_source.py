"""A kept model: to whoever reads it, the folder it was made of."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from families import ODD, fine_tuned, tensors, write_family, write_model
from safetensors import safe_open

from mdm_kit.bundle.kept_file import KeptFile
from mdm_kit.errors import IntegrityError, RoomError, SourceError, UsageError
from mdm_kit.run.keeping import Kept, keep_deltas
from mdm_kit.sources import FolderSource, MemorySource
from mdm_kit.sources.kept import KeptSource
from mdm_kit.sources.kept_container import read_facts

if TYPE_CHECKING:
    from pathlib import Path

    from mdm_kit.sources.stored import StoredSource

SIDES = {"tokenizer.json": b'{"a": 1}' * 1000, "merges.txt": b""}
BIG = {**ODD, "model.big": ((3, 300_001), torch.bfloat16), "model.long": ((2**18,), torch.float64)}
"""With tensors of several blocks, of odd length, and of exactly one."""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_family(root, BIG, n=2, n_shards=3)
    for name, data in SIDES.items():
        (root / "m1" / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def kept(family: Path) -> Path:
    return keep(family, family / "m1.safetensors")


def keep(root: Path, path: Path, *, base: str | None = "base", threads: int = 2) -> Path:
    with FolderSource("m1", root / "m1") as source:
        if base is None:
            keep_deltas([Kept(source, None, path)], threads)
            return path
        with FolderSource("base", root / base) as against:
            done = keep_deltas([Kept(source, against, path)], threads)
    data = path.read_bytes()
    assert done[path.name].nbytes == len(data)
    assert done[path.name].sha256 == "sha256:" + hashlib.sha256(data).hexdigest()
    return path


def same(found: StoredSource, wanted: StoredSource) -> None:
    """Both give the same headers, bytes, side files, fingerprint and digests."""
    assert found.headers() == wanted.headers()
    assert found.fingerprint() == wanted.fingerprint()
    for file in wanted.headers().files:
        assert found.file_digest(file.name) == wanted.file_digest(file.name)
    for info in wanted.headers().tensors.values():
        assert found.read(info) == wanted.read(info)
        loan = found.lend(info, 0, info.nbytes)
        assert loan.view() == wanted.read(info)
        loan.release()
    assert found.side_files() == wanted.side_files()
    for name in wanted.side_files():
        assert found.side_file(name) == wanted.side_file(name)


def test_reads_as_the_folder_did(family: Path, kept: Path) -> None:
    with (
        FolderSource("base", family / "base") as base,
        FolderSource("m1", family / "m1") as wanted,
        KeptSource("m1", kept, base) as found,
    ):
        assert len(wanted.headers().files) == 3
        same(found, wanted)
        assert found.base_fingerprint == base.fingerprint()
        assert found.source_fingerprint == wanted.fingerprint()
        assert found.origin().kind == "kept"
        assert found.origin().path == str(kept)
        assert found.witness() == found.witness()


def test_whole_without_a_base(family: Path, tmp_path: Path) -> None:
    path = keep(family, tmp_path / "m1.safetensors", base=None)
    with FolderSource("m1", family / "m1") as wanted, KeptSource("m1", path, None) as found:
        same(found, wanted)
        assert found.base_fingerprint is None


def test_any_range_of_a_file(family: Path, kept: Path) -> None:
    draw = np.random.default_rng(0)
    with (
        FolderSource("base", family / "base") as base,
        FolderSource("m1", family / "m1") as wanted,
        KeptSource("m1", kept, base) as found,
    ):
        for file in wanted.headers().files:
            head = file.header_nbytes
            for start in (0, 3, head - 1, head, *draw.integers(0, file.nbytes, 12)):
                nbytes = int(draw.integers(0, file.nbytes - start + 1))
                views = bytearray(nbytes), bytearray(nbytes)
                found._read_at(file.name, memoryview(views[0]), int(start))
                wanted._read_at(file.name, memoryview(views[1]), int(start))
                assert views[0] == views[1]


def test_is_a_safetensors_file(kept: Path) -> None:
    with safe_open(kept, "np") as file:
        assert file.metadata()["format"] == "mdm_kit/deltas/1"
        names = set(file.keys())
        assert "t/model.big" in names
        assert "h/model.safetensors.index.json" in names
        assert "f/tokenizer.json" in names
        for name in names:
            assert file.get_tensor(name).dtype == np.uint8
    assert int.from_bytes(kept.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("threads", [1, 5])
def test_same_bytes_however_many_workers(
    family: Path, kept: Path, tmp_path: Path, threads: int
) -> None:
    path = keep(family, tmp_path / "m1.safetensors", threads=threads)
    assert path.read_bytes() == kept.read_bytes()


def test_several_models_and_bases_in_one_pass(family: Path, kept: Path, tmp_path: Path) -> None:
    """Each file is the one it would have been alone."""
    told: list[int] = []
    with (
        FolderSource("base", family / "base") as base,
        FolderSource("m1", family / "m1") as m1,
        FolderSource("m2", family / "m2") as m2,
    ):
        all_three = [
            Kept(m1, base, tmp_path / "m1.safetensors"),
            Kept(base, None, tmp_path / "base.safetensors"),
            Kept(m2, base, tmp_path / "m2.safetensors"),
        ]
        done = keep_deltas(all_three, 2, told.append)
        assert list(done) == [k.path.name for k in all_three]
        sources = (m1, base, m2)
        assert sum(told) == sum(t.nbytes for s in sources for t in s.headers().tensors.values())
        assert (tmp_path / "m1.safetensors").read_bytes() == kept.read_bytes()
        with KeptSource("base", tmp_path / "base.safetensors", None) as again:
            same(again, base)
            with KeptSource("m2", tmp_path / "m2.safetensors", again) as found:
                same(found, m2)  # a kept base serves as well as the folder did


def test_base_with_other_tensors(tmp_path: Path) -> None:
    """Another dtype, another shape, none at all: such tensors are kept alone."""
    model = tensors(ODD, 1)
    base = {n: t.float() if n == "model.cube" else t for n, t in tensors(ODD, 0).items()}
    base["model.embed_tokens.weight"] = base["model.embed_tokens.weight"][:30].contiguous()
    del base["model.scale"]
    base["model.only_here"] = torch.zeros(3)
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "m1", model)
    path = keep(tmp_path, tmp_path / "kept.safetensors")
    alone = {n for n, t in read_facts("m1", path).tensors.items() if not t.against_base}
    assert alone == {"model.cube", "model.embed_tokens.weight", "model.scale"}
    with (
        FolderSource("base", tmp_path / "base") as against,
        FolderSource("m1", tmp_path / "m1") as wanted,
        KeptSource("m1", path, against) as found,
    ):
        same(found, wanted)


def test_small_changes_take_little_room(tmp_path: Path) -> None:
    base = {"w": torch.randn(512, 1024, generator=torch.Generator().manual_seed(0)).bfloat16()}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "m1", fine_tuned(base, 1, 0.002))
    size = keep(tmp_path, tmp_path / "kept.safetensors").stat().st_size
    assert size < (tmp_path / "m1" / "model.safetensors").stat().st_size / 4


def test_many_threads_read_at_once(family: Path, kept: Path) -> None:
    with (
        FolderSource("base", family / "base") as base,
        FolderSource("m1", family / "m1") as wanted,
        KeptSource("m1", kept, base) as found,
        ThreadPoolExecutor(8) as pool,
    ):
        infos = [i for i in wanted.headers().tensors.values() for _ in range(4)]
        for info, data in zip(infos, pool.map(found.read, infos), strict=True):
            assert data == wanted.read(info)


def test_needs_its_base(family: Path, kept: Path) -> None:
    facts = read_facts("m1", kept)
    assert facts.base is not None
    with pytest.raises(SourceError, match=facts.base.fingerprint):
        KeptSource("m1", kept, None)


def test_refuses_another_base(family: Path, kept: Path) -> None:
    """The other fine-tune differs in a few numbers only; its headers are the base's."""
    with FolderSource("m2", family / "m2") as other, KeptSource("m1", kept, other) as found:
        with pytest.raises(IntegrityError) as refused:
            found.headers()
        assert found.base_fingerprint in str(refused.value)
        assert other.fingerprint() in str(refused.value)
        assert str(family) not in str(refused.value)


def test_closed_or_absent(family: Path, kept: Path) -> None:
    with FolderSource("base", family / "base") as base:
        source = KeptSource("m1", kept, base)
        info = source.headers().tensors["model.cube"]
        source.read(info)
        source.close()
        with pytest.raises(UsageError, match="was closed"):
            source.read(info)
        base.headers()  # still open
        with pytest.raises(SourceError, match="found none"):
            KeptSource("m1", family / "nowhere.safetensors", base)


def test_in_memory_models_are_kept_too(tmp_path: Path) -> None:
    base = MemorySource.from_tensors("base", {"w": torch.ones(5)})
    source = MemorySource.from_tensors("m", {"w": torch.ones(5) * 1.5}, {"config.json": b"{}"})
    keep_deltas([Kept(source, base, tmp_path / "m.safetensors")], 1)
    with KeptSource("m", tmp_path / "m.safetensors", base) as found:
        same(found, source)


def test_nothing_is_left_behind_on_an_error(family: Path, tmp_path: Path) -> None:
    with FolderSource("m1", family / "m1") as source, MemorySource("base", {}) as base:
        source.headers()
        base.headers()
        base.close()
        with pytest.raises(UsageError, match="was closed"):
            keep_deltas([Kept(source, base, tmp_path / "kept.safetensors")], 2)
        assert not list(tmp_path.iterdir())
        with pytest.raises(RoomError, match="cannot write"):
            keep_deltas([Kept(source, None, tmp_path / "no" / "kept.safetensors")], 2)


def test_an_error_amid_the_tensors_gives_every_loan_back(family: Path, tmp_path: Path) -> None:
    with FolderSource("base", family / "base") as base, FolderSource("m1", family / "m1") as source:

        def fail(nbytes: int) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            keep_deltas([Kept(source, base, tmp_path / "kept.safetensors")], 2, fail)
        for model in (base, source):
            assert all(entry.users == 0 for entry in model._files._open.values())
    assert not list(tmp_path.iterdir())


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    names = [f"t/{'x' * 100}{i}" for i in range(150_000)]
    with pytest.raises(UsageError, match="150,000 tensors and files need a header"):
        KeptFile(tmp_path / "kept.safetensors", names, {})
    assert not list(tmp_path.iterdir())
