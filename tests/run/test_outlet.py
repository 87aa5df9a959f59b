"""Finished shards go out while others are made; a resumed merge needs none of them again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from families import write_family

import mdm_kit
from mdm_kit.bundle.stage import Stage, work_folder
from mdm_kit.errors import SourceError, UploadsLost
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.run.journal import Journal
from mdm_kit.run.merge import Merged, run_plan
from mdm_kit.run.outlet import Published

SHARD = 1500


@dataclass
class Shelf:
    """An outlet that copies shards to a folder as soon as it is given them."""

    folder: Path
    keeps: bool = False
    place: str = "you/shelf"
    fail_at: int | None = None
    lost: bool = False
    taken: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    most_nbytes: int = 0

    def await_room(self) -> None:
        pass

    def settle(self) -> None:
        pass

    def take(self, path: Path, entry: FileEntry, arrived: Callable[[], None]) -> None:
        on_disk = sum(p.stat().st_size for p in path.parent.glob("*.safetensors*"))
        self.most_nbytes = max(self.most_nbytes, on_disk)
        if len(self.taken) == self.fail_at:
            raise SourceError("the shelf is full")
        self.taken.append(path.name)
        (self.folder / path.name).write_bytes(path.read_bytes())
        arrived()

    def took(self, name: str, entry: FileEntry) -> None:
        assert (self.folder / name).stat().st_size == entry.nbytes
        self.told.append(name)

    def publish(self, folder: Path, manifest: Manifest) -> Published:
        if self.lost:
            raise UploadsLost("gone")
        for path in folder.iterdir():
            if path.is_file():
                (self.folder / path.name).write_bytes(path.read_bytes())
        return Published(self.place, "main", "0" * 40, True, True, 0, 0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_family(tmp_path, n=2)
    (tmp_path / "shelf").mkdir()
    text = (
        f"merge_method: mdm_oc\nbase_model: {tmp_path}/base\n"
        f"models: [{{model: {tmp_path}/m1}}, {{model: {tmp_path}/m2}}]\n"
    )
    (tmp_path / "r.yml").write_text(text)
    return tmp_path / "r.yml"


def merged(recipe: Path, out: Path, outlet: Shelf, **how: object) -> Merged:
    with mdm_kit.plan(recipe, shard_nbytes=SHARD) as plan:
        return run_plan(plan, out, outlet=outlet, **how)  # type: ignore[arg-type]


def test_without_a_local_copy_the_shelf_has_it_all_and_disk_had_one_shard(
    recipe: Path, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path / "shelf")
    done = merged(recipe, tmp_path / "out", shelf)
    assert done.published is not None
    assert not (tmp_path / "out").exists()
    assert not work_folder(tmp_path / "out").exists()
    assert len(shelf.taken) == len(done.shards) > 3
    largest = max(e.nbytes for e in done.manifest.shards.values())
    assert shelf.most_nbytes <= largest
    assert mdm_kit.verify(tmp_path / "shelf").sound


def test_what_was_sent_is_neither_made_nor_sent_again(recipe: Path, tmp_path: Path) -> None:
    first = Shelf(tmp_path / "shelf", fail_at=3)
    with pytest.raises(SourceError):
        merged(recipe, tmp_path / "out", first)
    second = Shelf(tmp_path / "shelf")
    done = merged(recipe, tmp_path / "out", second)
    assert second.told == first.taken
    assert not set(first.taken) & set(second.taken)
    assert sorted(first.taken + second.taken) == sorted(done.shards)
    assert mdm_kit.verify(tmp_path / "shelf").sound


def test_another_shelf_gets_everything(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        merged(recipe, tmp_path / "out", Shelf(tmp_path / "shelf", fail_at=3))
    (tmp_path / "other").mkdir()
    other = Shelf(tmp_path / "other", place="you/other")
    done = merged(recipe, tmp_path / "out", other)
    assert sorted(other.taken) == sorted(done.shards)
    assert mdm_kit.verify(tmp_path / "other").sound


def test_side_files_of_a_second_run_are_those_of_the_first(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the commit and its note must not look like another merge."""
    with monkeypatch.context() as patched:
        patched.setattr(Stage, "discard", lambda _: None)
        merged(recipe, tmp_path / "out", Shelf(tmp_path / "shelf"))
    before = {p.name: p.read_bytes() for p in (tmp_path / "shelf").iterdir()}
    journal = work_folder(tmp_path / "out") / "journal.jsonl"
    time = Journal(journal).time
    text = journal.read_text().replace(time, "2020-01-01T00:00:00+00:00")
    journal.write_text(text)  # as if a day had gone by
    merged(recipe, tmp_path / "out", Shelf(tmp_path / "shelf"))
    after = {p.name: p.read_bytes() for p in (tmp_path / "shelf").iterdir()}
    now = Manifest.from_bytes(after["mdm_manifest.json"]).history[-1].time
    assert now == "2020-01-01T00:00:00+00:00"
    assert {n for n in after if after[n] != before.get(n)} == {"mdm_manifest.json"}


def test_lost_uploads_are_made_anew_by_the_next_run(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UploadsLost):
        merged(recipe, tmp_path / "out", Shelf(tmp_path / "shelf", lost=True))
    again = Shelf(tmp_path / "shelf")
    done = merged(recipe, tmp_path / "out", again)
    assert sorted(again.taken) == sorted(done.shards)


def test_with_a_local_copy_both_have_it(recipe: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", keeps=True)
    merged(recipe, tmp_path / "out", shelf)
    assert mdm_kit.verify(tmp_path / "out").sound
    assert mdm_kit.verify(tmp_path / "shelf").sound


DIES = """
import os, sys
from pathlib import Path
import mdm_kit
from mdm_kit.run.merge import run_plan
from test_outlet import SHARD, Shelf
shelf = Shelf(Path(sys.argv[3]))
step, left = Path.unlink, int(sys.argv[4])
def unlink(self, *args, **named):
    global left
    if self.suffix == ".safetensors":
        left -= 1
        if not left:
            os._exit(9)
    step(self, *args, **named)
Path.unlink = unlink
with mdm_kit.plan(sys.argv[1], shard_nbytes=SHARD) as plan:
    run_plan(plan, Path(sys.argv[2]), outlet=shelf)
"""


def test_a_kill_between_note_and_deletion_leaves_nothing_behind(
    recipe: Path, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "shelf"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    ended = subprocess.run(
        [sys.executable, "-c", DIES, recipe, out, folder, "2"],
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert ended.returncode == 9
    assert list((work_folder(out) / "model").glob("*.safetensors"))
    shelf = Shelf(folder)
    merged(recipe, out, shelf)
    assert len(shelf.told) == 2
    assert not work_folder(out).exists()
    assert mdm_kit.verify(folder).sound
