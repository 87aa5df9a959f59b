"""What verify believes of a merge that lies elsewhere, and what it reads: no network needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from families import write_family

import mdm_kit
from mdm_kit.bundle import verify as verifying
from mdm_kit.bundle.verify import verify_files
from mdm_kit.errors import SourceError
from mdm_kit.sources import FolderSite, FolderSource, SiteFile


class Elsewhere(FolderSite):
    """The files of a folder as a repository has them: in plain git, or declared by the host."""

    def __init__(self, folder: Path, *, declares: bool) -> None:
        super().__init__(folder)
        self.declares = declares
        self.read_whole: list[str] = []

    @property
    def folder(self) -> Path | None:
        return None

    def find(self, name: str) -> SiteFile | None:
        found = super().find(name)
        if found is None or not self.declares:
            return found
        data = super().path(name).read_bytes()
        return SiteFile(len(data), hashlib.sha256(data).hexdigest())

    def path(self, name: str) -> Path:
        self.read_whole.append(name)
        return super().path(name)


class Unreachable(Elsewhere):
    """A repository that goes away between the list of its files and their headers."""

    def source(self, name: str) -> FolderSource:
        raise SourceError("the Hub cannot be reached")


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    write_family(tmp_path, n=2)
    recipe = (
        f"merge_method: linear\nmodels:\n  - {{model: {tmp_path}/m1, parameters: {{weight: 1}}}}\n"
        f"  - {{model: {tmp_path}/m2, parameters: {{weight: 1}}}}\n"
    )
    mdm_kit.merge(recipe, tmp_path / "out", shard_nbytes=3000)
    return tmp_path / "out"


def change_last_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_declared_digests_are_compared_and_nothing_is_read(merged: Path) -> None:
    site = Elsewhere(merged, declares=True)
    told: list[int] = []
    found = verify_files(site, told.append)
    assert found.sound
    assert site.read_whole == ["mdm_manifest.json"]
    assert (found.n_declared, found.nbytes_declared) == (found.n_files, found.nbytes)
    assert sum(told) == found.nbytes, "a bar of progress comes to its end"
    shard = min(found.manifest.shards)
    change_last_byte(merged / shard)
    (fault,) = verify_files(site).faults
    assert fault.startswith(f"{shard}: expected sha256:")


def test_what_nobody_declares_is_read_to_the_last_tensor(merged: Path) -> None:
    site = Elsewhere(merged, declares=False)
    found = verify_files(site)
    assert found.sound
    assert found.n_declared == 0
    assert {*site.read_whole} == {
        "mdm_manifest.json",
        *found.manifest.files,
        *found.manifest.shards,
    }
    shard = min(found.manifest.shards)
    change_last_byte(merged / shard)
    faults = verify_files(site).faults
    assert [f.partition(" ")[0] for f in faults] == [f"{shard}:"] * 2
    assert "tensor" in faults[1]


def test_what_nobody_declares_is_not_downloaded_if_it_is_large(
    merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "MAX_UNDECLARED_NBYTES", 1000)
    site = Elsewhere(merged, declares=False)
    found = verify_files(site)
    large = [n for n, e in found.manifest.shards.items() if e.nbytes > 1000]
    assert large
    for name in large:
        assert any(f.startswith(f"{name}: expected its sha256") for f in found.faults)
        assert name not in site.read_whole
    assert verify_files(Elsewhere(merged, declares=True)).sound
    assert verify_files(FolderSite(merged)).sound


def test_a_hub_that_goes_away_is_no_fault_of_the_merge(merged: Path) -> None:
    with pytest.raises(SourceError, match="cannot be reached"):
        verify_files(Unreachable(merged, declares=True))
    change_last_byte(merged / "config.json")
    shard = min(verify_files(FolderSite(merged)).manifest.shards)
    (merged / shard).unlink()
    assert f"{shard}: is missing" in verify_files(Unreachable(merged, declares=True)).faults
