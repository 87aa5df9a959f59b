"""Where a finished merge lies: a folder, or a name that can only be a repository's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources import FolderSite, HubSite, JoinedSite, SiteFile, open_site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "you" / "merge"
    (folder / "deltas").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "deltas" / "001.safetensors").write_bytes(b"here")
    return folder


def test_a_folder_that_exists_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_site("you/merge"), HubSite)
    monkeypatch.chdir(folder.parent.parent)
    for where in ("you/merge", "./you/merge", str(folder), folder, Path("you/merge")):
        assert open_site(where).folder == Path(where)
    site = FolderSite(folder)
    assert open_site(site) is site


NO_REPOSITORY = [
    *("", "merge", "merge@main", "./you/merge", "/you/merge", "you/merge/", "a/b/c", "~none/merge"),
    *("you/merge+lora", "you\\merge", "you/mer\x00ge", "x" * 5000, "@main", Path("you/merge")),
]


@pytest.mark.parametrize("where", NO_REPOSITORY)
def test_what_can_be_no_repository_is_a_folder_that_is_not_there(where: str | Path) -> None:
    with pytest.raises(SourceError, match="there is no folder"):
        open_site(where)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(SourceError, match="there is no folder"):
        open_site(folder / "config.json")


def test_a_folder_has_no_revisions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(SourceError, match="a folder has no revisions; remove '@main'"):
        open_site("you/merge@main")
    folder.rename(folder.with_name("merge@main"))
    assert open_site("you/merge@main").folder == Path("you/merge@main")


def test_a_folder_says_sizes_and_reads_within_limits(folder: Path) -> None:
    site = FolderSite(folder)
    assert list(site.names()) == ["config.json", "deltas"]
    assert site.pinned is None
    assert site.find("config.json") == SiteFile(2, None)
    assert site.find("deltas/001.safetensors") == SiteFile(4, None)
    assert site.find("deltas") is None
    assert site.find("none") is None
    assert site.read("config.json", 2) == b"{}"
    with pytest.raises(IntegrityError, match="at most 1 bytes"):
        site.read("config.json", 1)


def test_a_link_may_lead_to_the_caches_blobs_and_nowhere_else(tmp_path: Path) -> None:
    repo = tmp_path / "models--you--merge"
    snapshot = repo / "snapshots" / "c"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for name, target in (("good", repo / "blobs" / "b"), ("bad", tmp_path / "b")):
        target.write_bytes(b"x")
        (snapshot / name).symlink_to(target)
    assert FolderSite(snapshot).find("good") == SiteFile(1)
    for name in ("bad", "../b", "/etc/passwd"):
        with pytest.raises(IntegrityError, match="outside of the folder"):
            FolderSite(snapshot).find(name)


def test_kept_models_are_taken_from_the_folder_before_the_other_place(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "deltas").mkdir(parents=True)
    for name in ("config.json", "deltas/001.safetensors", "deltas/002.safetensors"):
        (other / name).write_bytes(b"there!")
    site = JoinedSite(FolderSite(folder), FolderSite(other))
    assert (site.name, site.folder) == (str(folder), folder)
    assert site.read("deltas/001.safetensors", 9) == b"here"
    assert site.read("deltas/002.safetensors", 9) == b"there!"
    assert site.path("deltas/002.safetensors") == other / "deltas" / "002.safetensors"
    assert site.find("deltas/003.safetensors") is None
    assert site.read("config.json", 9) == b"{}"
    assert list(site.names()) == ["config.json", "deltas"]
