"""What merges as sums take: memory that models do not add to, and no more than the plan says."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

import pytest
import torch
from bench.measured import measure
from continual import growing_recipe
from map_memory import IDLE, LIBRARIES, memory_of, write

import mdm_kit
from mdm_kit.bundle.stage import work_folder
from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES
from mdm_kit.run import tile
from mdm_kit.run.covarying import CovaryingCourse
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.projecting import ProjectingCourse
from mdm_kit.run.summed_course import SummedCourse

MERGES = {
    "opcm": ("opcm", "", "none"),
    "opcm kept": ("opcm", "", "state"),
    "opcm scaled": ("opcm", "scale: 1", "none"),
    "covmerge": ("covmerge", "", "none"),
    "covmerge kept": ("covmerge", "", "state"),
}


@pytest.mark.parametrize("merge", ["opcm scaled", "covmerge", "covmerge kept"])
def test_sums_go_with_their_tensors(
    tmp_path: Path, merge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with their shard, which holds forty tensors here."""
    write(tmp_path, (24, 24), 40, 2, torch.float32)
    monkeypatch.setattr(tile, "BATCH_NBYTES", 1000)
    alive: weakref.WeakSet[SummedCourse] = weakref.WeakSet()
    most = [0]
    for course in (ProjectingCourse, CovaryingCourse):
        todo = course.merge_models

        def counting(self: MapCourse, *rest: object, todo: object = todo) -> None:
            alive.add(self)
            most[0] = max(most[0], len(alive))
            todo(self, *rest)  # type: ignore[operator]

        monkeypatch.setattr(course, "merge_models", counting)
    method, settings, keep = MERGES[merge]
    text = growing_recipe(tmp_path, method, [1, 2], settings, keep=keep)
    mdm_kit.merge(text, tmp_path / "out", threads=2)
    assert 1 <= most[0] <= 14


class DiskWatch:
    """Notes the room the work folder takes, each file counted once whatever its names."""

    def __init__(self, work: Path) -> None:
        self.work, self.most = work, 0

    def start(self, total_nbytes: int, done_nbytes: int) -> None: ...

    def say(self, text: str) -> None: ...

    def advance(self, nbytes: int) -> None:
        found = [p.stat() for p in self.work.rglob("*") if p.is_file()]
        self.most = max(self.most, sum({s.st_ino: 512 * s.st_blocks for s in found}.values()))


@pytest.mark.parametrize("merge", MERGES)
def test_the_disk_is_what_the_plan_says(tmp_path: Path, merge: str) -> None:
    write(tmp_path, (256, 512), 6, 2, torch.bfloat16)
    method, settings, keep = MERGES[merge]
    text = growing_recipe(tmp_path, method, [1, 2], settings, keep=keep)
    watch = DiskWatch(work_folder(tmp_path / "out"))
    with mdm_kit.plan(text) as plan:
        planned = plan.costs.disk_nbytes
    mdm_kit.merge(text, tmp_path / "out", progress=watch)
    assert 0.9 * planned - 32_768 < watch.most < planned + 32_768


def test_arrays_beyond_memory_are_disk(tmp_path: Path) -> None:
    """As many as are summed ahead; with room for them they are memory."""
    write(tmp_path, (256, 512), 6, 2, torch.bfloat16)
    text = growing_recipe(tmp_path, "covmerge", [1, 2], keep="none")
    found = []
    for memory in (4_000_000, DEFAULT_MEMORY_NBYTES):
        with mdm_kit.plan(text, threads=2, memory_nbytes=memory) as plan:
            found.append(plan.costs)
    large = 256 * 512 * 8  # a sum of changes, one of products, and half a square of 512
    sums = 2 * large + 512 * 513 // 2 * 8
    assert found[0].disk_nbytes - found[1].disk_nbytes == 3 * sums
    assert found[1].memory_nbytes - found[0].memory_nbytes >= 3 * sums


@pytest.mark.real
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_memory_is_what_the_plan_says(tmp_path: Path, merge: str, dtype: torch.dtype) -> None:
    write(tmp_path, (2048, 1024), 8, 2, dtype)
    method, settings, keep = MERGES[merge]
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(growing_recipe(tmp_path, method, [1, 2], settings, keep=keep))
    planned = []
    for threads in (1, 2):
        with mdm_kit.plan(recipe, threads=threads) as plan:
            planned.append(plan.costs.memory_nbytes)
    one, two = (memory_of(recipe, tmp_path / f"out{t}", t) for t in (1, 2))
    assert planned[0] / 2 < one < planned[0] * 1.3 + LIBRARIES
    assert two < planned[1] * 1.3 + LIBRARIES


@pytest.mark.real
@pytest.mark.parametrize("merge", MERGES)
def test_memory_does_not_grow_with_the_models(tmp_path: Path, merge: str) -> None:
    write(tmp_path, (1536, 1536), 2, 12, torch.bfloat16)
    method, settings, keep = MERGES[merge]
    found = []
    for n in (2, 12):
        recipe = tmp_path / f"{n}.yml"
        recipe.write_text(growing_recipe(tmp_path, method, range(1, n + 1), settings, keep=keep))
        found.append(memory_of(recipe, tmp_path / f"out{n}"))
    idle = measure([sys.executable, "-c", IDLE]).anonymous_nbytes
    assert idle + found[1] < 1.1 * (idle + found[0])
