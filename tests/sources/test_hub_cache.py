"""The cache without the Hub: revisions, prefixes, files, declared digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mdm_kit.sources.hub_cache import cached_commit, cached_files, remember, repo_folder
from mdm_kit.sources.hub_listing import Listed

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = "1" * 40, "1" * 6 + "2" * 34
SHA256 = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = repo_folder(tmp_path, "org/name")
    assert folder.name == "models--org--name"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / SHA256).write_bytes(b"weights")
    (folder / "blobs" / "ff").write_bytes(b"{}")
    for commit in (ONE, TWO):
        (folder / "snapshots" / commit / "sub").mkdir(parents=True)
    (folder / "snapshots" / ONE / "model.safetensors").symlink_to(f"../../blobs/{SHA256}")
    (folder / "snapshots" / ONE / "config.json").symlink_to("../../blobs/ff")
    (folder / "snapshots" / ONE / "gone.json").symlink_to("../../blobs/none")
    (folder / "snapshots" / ONE / "sub" / "plain.json").write_bytes(b"x")
    remember(folder, "main", ONE)
    remember(folder, "refs/pr/1", TWO)
    return folder


@pytest.mark.parametrize(
    ("revision", "commit"),
    [
        ("main", ONE),
        ("refs/pr/1", TWO),
        (ONE, ONE),
        ("3" * 40, None),
        ("1111111", ONE),
        ("1111112", TWO),
        ("111111", None),
        ("v1", None),
        ("refs", None),
    ],
)
def test_revisions(folder: Path, revision: str, commit: str | None) -> None:
    assert cached_commit(folder, revision) == commit


def test_prefix_of_two_commits_is_neither(folder: Path) -> None:
    (folder / "snapshots" / ("1" * 39 + "3")).mkdir()
    assert cached_commit(folder, "1111111") is None


@pytest.mark.parametrize("text", ["", "../../x", "1" * 39, "g" * 40, "é"])
def test_ref_that_holds_no_commit(folder: Path, text: str) -> None:
    (folder / "refs" / "main").write_text(text)
    assert cached_commit(folder, "main") is None


def test_files_with_sizes_and_declared_digests(folder: Path) -> None:
    assert cached_files(folder, ONE) == {
        "model.safetensors": Listed(7, SHA256),
        "config.json": Listed(2, None),
        "sub/plain.json": Listed(1, None),
    }


def test_a_commit_is_not_noted_as_a_name(folder: Path) -> None:
    remember(folder, ONE, ONE)
    assert not (folder / "refs" / ONE).exists()


def test_note_is_replaced_and_leaves_nothing_behind(folder: Path) -> None:
    remember(folder, "main", TWO)
    assert cached_commit(folder, "main") == TWO
    assert [p.name for p in (folder / "refs").iterdir() if p.is_file()] == ["main"]


def test_cache_that_cannot_be_written(folder: Path) -> None:
    (folder / "refs" / "main").unlink()
    (folder / "refs" / "main").mkdir()
    remember(folder, "main/x/y", ONE)
    remember(folder, "main", ONE)
    assert cached_commit(folder, "main") is None
