"""Extracting: the files a model had, every byte, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from families import ODD, write_family

from mdm_kit.errors import IntegrityError, OutputExists
from mdm_kit.run.extract import extract
from mdm_kit.run.keeping import Kept, keep_deltas
from mdm_kit.sources import FolderSource
from mdm_kit.sources.kept import KeptSource
from mdm_kit.sources.kept_facts import KeptTensor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def family(tmp_path: Path) -> Path:
    write_family(tmp_path, ODD, n=1, n_shards=2)
    (tmp_path / "m1" / "tokenizer.json").write_bytes(b'{"version": "1.0"}')
    (tmp_path / "m1" / "1_Pooling").mkdir()
    (tmp_path / "m1" / "1_Pooling" / "config.json").write_bytes(b"{}")
    with FolderSource("base", tmp_path / "base") as base, FolderSource("m1", tmp_path / "m1") as m:
        keep_deltas([Kept(m, base, tmp_path / "kept.safetensors")], 2)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize("threads", [1, 3])
def test_every_byte_comes_back(family: Path, threads: int) -> None:
    told: list[int] = []
    with (
        FolderSource("base", family / "base") as base,
        KeptSource("m1", family / "kept.safetensors", base) as kept,
    ):
        extract(kept, family / "out", threads, told.append)
        assert sum(told) == kept.headers().nbytes
    assert contents(family / "out") == contents(family / "m1")
    assert not [p for p in family.iterdir() if p.name.startswith(".")]


def test_other_sources_are_extracted_too(family: Path) -> None:
    with FolderSource("m1", family / "m1") as source:
        extract(source, family / "out")
    assert contents(family / "out") == contents(family / "m1")


def test_refuses_a_folder_with_something_in_it(family: Path) -> None:
    (family / "out").mkdir()
    with FolderSource("m1", family / "m1") as source:
        (family / "out" / "mine.txt").write_text("mine")
        with pytest.raises(OutputExists):
            extract(source, family / "out")
        assert contents(family / "out") == {"mine.txt": b"mine"}
        (family / "out" / "mine.txt").unlink()
        extract(source, family / "out")  # an empty one is fine
    assert contents(family / "out") == contents(family / "m1")


def test_leaves_an_interrupted_merge_alone(family: Path) -> None:
    work = family / ".out.mdm-partial"
    work.mkdir()
    (work / "journal.jsonl").write_text("{}\n")
    with (
        FolderSource("m1", family / "m1") as source,
        pytest.raises(OutputExists, match="interrupted"),
    ):
        extract(source, family / "out")
    assert (work / "journal.jsonl").read_text() == "{}\n"


def test_a_wrong_tensor_leaves_nothing_behind(family: Path) -> None:
    """The digest is of the bytes, not of what was stored of them."""
    with (
        FolderSource("base", family / "base") as base,
        KeptSource("m1", family / "kept.safetensors", base) as kept,
    ):
        kept._facts.tensors["model.cube"] = KeptTensor(True, "0" * 64)
        with pytest.raises(IntegrityError, match=r"model\.cube"):
            extract(kept, family / "out")
    assert sorted(p.name for p in family.iterdir()) == ["base", "kept.safetensors", "m1"]
