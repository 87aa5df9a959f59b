"""Merges as sums that are killed, harmed or fail: nothing is lost, mixed, done twice, or hangs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from continual import CONFIGS, LLAMA, addition, growing_recipe, shards, write_growing
from families import write_model
from merged_families import manifest_of
from safetensors.torch import load_file
from torch import Tensor

import mdm_kit
from mdm_kit.api_edits import Running
from mdm_kit.bundle.stage import Stage, work_folder
from mdm_kit.errors import NotFiniteError, RoomError
from mdm_kit.run.covarying import CovaryingCourse
from mdm_kit.run.delivery import Delivery
from mdm_kit.run.journal import Journal
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.projecting import ProjectingCourse

SHARD = 12_000
MERGES = {
    "norms": ("opcm", "", "none"),
    "norms kept": ("opcm", "", "state"),
    "scaled kept": ("opcm", "scale: 1", "state"),
    "own scales": ("opcm", "scale_scope: tensor", "none"),
    "covmerge": ("covmerge", "", "none"),
    "covmerge kept": ("covmerge", "", "state"),
}
KILLS = {
    "norms": ("summing", "noted", "finished", "sealing"),
    "norms kept": ("noted", "writing", "linked", "renamed", "finished"),
    "scaled kept": ("summing", "finished"),
    "own scales": ("finished",),
    "covmerge": ("summing", "sealing", "finished"),
    "covmerge kept": ("finished", "linked", "renamed"),
}
CASES = [(merge, point) for merge, points in KILLS.items() for point in points]

DIES = """
import os, sys
import torch
import mdm_kit
from mdm_kit.bundle.stage import Stage
from mdm_kit.run import kept_sums, summing_before
from mdm_kit.run.journal import Journal
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.progress import Silent

def dies_in(owner, name, calls, before=False):
    todo, left = getattr(owner, name), [calls]
    def harmed(*arguments, **more):
        left[0] -= 1
        if before and not left[0]:
            os._exit(9)
        found = todo(*arguments, **more)
        if not left[0]:
            os._exit(9)
        return found
    setattr(owner, name, harmed)

def refused(*_):
    raise OSError("no second names here")

def harm(point):
    if point == "summing":
        dies_in(MapCourse, "merge_map", 4, before=True)
    elif point == "noted":
        dies_in(Journal, "summed", 2)
    elif point == "finished":
        dies_in(Journal, "finished", 2)
    elif point == "writing":
        dies_in(Silent, "advance", 7)
    elif point in ("linked", "renamed"):
        dies_in(kept_sums, "digest_file", 1, before=True)
        if point == "renamed":
            kept_sums.os.link = refused
    else:
        dies_in(Stage, "seal", 1, before=True)

summing_before.NOTED_NBYTES = 4000
shard, *cases = sys.argv[1:]
torch.set_num_threads(1)
for case in cases:
    recipe, out, point = case.split("|")
    child = os.fork()
    if not child:
        harm(point)
        mdm_kit.merge(recipe, out, shard_nbytes=int(shard), threads=2)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == 9, (case, ended)
"""


def everything(out: Path) -> dict[str, bytes]:
    """What a loader reads, and the sums that are kept."""
    kept = {p.name: p.read_bytes() for p in (out / "deltas").glob("*")}
    return {**shards(out), **kept}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, each merge undisturbed, and each killed at every point, by one child."""
    root = tmp_path_factory.mktemp("family")
    write_growing(root, "llama", 3)
    (root / "killed").mkdir()
    for name, (method, settings, keep) in MERGES.items():
        recipe = root / f"{name}.yml"
        recipe.write_text(growing_recipe(root, method, [1, 2, 3], settings, keep=keep))
        mdm_kit.merge(recipe, root / name, shard_nbytes=SHARD)
    todo = [f"{root / m}.yml|{root / 'killed' / f'{m} {p}'}|{p}" for m, p in CASES]
    command = [sys.executable, "-c", DIES, str(SHARD), *todo]
    subprocess.run(command, check=True, timeout=300)
    return root


def killed(family: Path, merge: str, point: str, to: Path) -> Path:
    """A merge of one's own that was killed there; returns its output, which is not there."""
    out = to / f"{merge} {point}"
    work = family / "killed" / work_folder(out).name
    copied = shutil.copytree(work, to / work.name)
    for kept in copied.glob("model/deltas/*"):
        if (copied / "sums" / kept.name).exists():  # a second name of the same file
            kept.unlink()
            os.link(copied / "sums" / kept.name, kept)
    assert not out.exists()
    return out


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the tensors whose maps were summed, one by one."""
    found: list[str] = []
    for course in (ProjectingCourse, CovaryingCourse):
        todo = course.merge_models

        def noting(self: MapCourse, *rest: object, todo: object = todo) -> None:
            found.append(self.write.name)
            todo(self, *rest)  # type: ignore[operator]

        monkeypatch.setattr(course, "merge_models", noting)
    return found


@pytest.mark.parametrize(("merge", "point"), CASES)
def test_a_killed_merge_goes_on_where_it_was(
    family: Path, tmp_path: Path, merge: str, point: str, summed: list[str]
) -> None:
    out = killed(family, merge, point, tmp_path)
    work = work_folder(out)
    noted = set(Journal(work / "journal.jsonl").facts)
    made = {p.name: p.stat().st_mtime_ns for p in (work / "model").glob("model-*.safetensors")}
    finished = set(Journal(work / "journal.jsonl").shards)
    if point == "renamed":  # there the first file's sums grew, and are no more
        lost = load_file(family / merge / "deltas" / "state-00001.safetensors")
        noted -= {entry.partition(":")[2] for entry in lost}
        finished -= {min(finished)}
    mdm_kit.merge(family / f"{merge}.yml", out, shard_nbytes=SHARD, threads=3)
    assert everything(out) == everything(family / merge)
    assert manifest_of(out).sums == manifest_of(family / merge).sums
    assert not work.exists()
    assert not noted & set(summed)
    assert len(summed) == len(set(summed)) == sum(n in LINEAR for n in LLAMA if n not in noted)
    for name in finished:
        assert (out / name).stat().st_mtime_ns == made[name], "a finished shard was written again"
    assert noted or point == "summing"
    assert mdm_kit.verify(out).sound


LINEAR = [n for n in LLAMA if "_proj" in n or "lm_head" in n]


@pytest.mark.parametrize("merge", ["norms", "norms kept", "scaled kept", "covmerge kept"])
def test_a_flipped_bit_of_a_sum_is_noticed(
    family: Path, tmp_path: Path, merge: str, summed: list[str]
) -> None:
    out = killed(family, merge, "finished", tmp_path)
    state = work_folder(out) / "sums" / "state-00001.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    with state.open("r+b") as file:  # not another file of this name
        file.write(data)
    mdm_kit.merge(family / f"{merge}.yml", out, shard_nbytes=SHARD)
    assert everything(out) == everything(family / merge)
    assert mdm_kit.verify(out).sound


@pytest.mark.parametrize("merge", ["norms kept", "covmerge"])
def test_a_torn_journal_line_and_another_start(
    family: Path, tmp_path: Path, merge: str, summed: list[str]
) -> None:
    for point in (KILLS[merge][0], "finished"):
        out = killed(family, merge, point, tmp_path)
        journal = work_folder(out) / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-9])
        mdm_kit.merge(family / f"{merge}.yml", out, shard_nbytes=SHARD)
        assert everything(out) == everything(family / merge)
    out = killed(family, merge, KILLS[merge][-2], tmp_path)
    summed.clear()
    mdm_kit.merge(family / f"{merge}.yml", out, shard_nbytes=SHARD, restart="fresh")
    assert len(summed) == len(LINEAR)
    assert everything(out) == everything(family / merge)


def test_a_finished_merge_is_exchanged_for_a_resumed_one(family: Path, tmp_path: Path) -> None:
    out = killed(family, "norms kept", "linked", tmp_path)
    shutil.copytree(family / "covmerge kept", out)
    mdm_kit.merge(family / "norms kept.yml", out, shard_nbytes=SHARD, overwrite=True)
    assert everything(out) == everything(family / "norms kept")


def test_room_that_sums_have_taken_is_not_asked_for_again(family: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    with mdm_kit.plan(family / "norms kept.yml", shard_nbytes=SHARD) as plan:
        needs = {}
        for out in (fresh, killed(family, "norms kept", "finished", tmp_path)):
            with Stage(out) as stage:
                needs[out] = Delivery(stage, Journal(stage.journal), None).room_nbytes(plan)
                sums = sum(p.stat().st_size for p in stage.sums.glob("*"))
        assert 2 * plan.costs.write_nbytes < sums + plan.costs.write_nbytes < needs[fresh]
        assert needs[fresh] - needs[out] >= sums


def test_room_for_sums_is_part_of_what_is_needed(tmp_path: Path) -> None:
    """Half of what is free holds the output, and not the sums beside it."""
    disk = os.statvfs(tmp_path)
    rows = disk.f_bavail * disk.f_frsize // 2 // (4 << 14)
    size = rows * (4 << 14)
    entry = {"dtype": "F32", "shape": [rows, 1 << 14], "data_offsets": [0, size]}
    text = json.dumps({"model.norm.weight": entry}).encode()
    for name in ("base", "m1", "m2"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + size)
    for method in ("opcm", "covmerge"):
        with pytest.raises(RoomError, match="needs .* left"):
            mdm_kit.merge(growing_recipe(tmp_path, method, [1, 2]), tmp_path / "out")
        assert not work_folder(tmp_path / "out").exists()


MAP, NORM = "model.layers.0.mlp.up_proj.weight", "model.norm.weight"


@pytest.mark.parametrize(("value", "threads"), [(float("nan"), 3), (float("-inf"), 1)])
@pytest.mark.parametrize(("who", "where"), [("m2", MAP), ("base", MAP), ("m3", NORM)])
def test_what_is_no_number_is_named_and_leaves_nothing(
    family: Path, tmp_path: Path, who: str, where: str, value: float, threads: int
) -> None:
    for name in ("base", "m1", "m2", "m3"):
        shutil.copytree(family / name, tmp_path / name)
    spoil(tmp_path / who, where, value)
    for method, settings, keep in MERGES.values():
        text = growing_recipe(tmp_path, method, [1, 2, 3], settings, keep=keep)
        with pytest.raises(NotFiniteError, match=f"{where}: element 5 of {who} is") as raised:
            mdm_kit.merge(text, tmp_path / "out", threads=threads, shard_nbytes=SHARD)
        assert str(value) in str(raised.value)
        assert not (tmp_path / "out").exists()
        assert not work_folder(tmp_path / "out").exists()


def spoil(folder: Path, tensor: str, value: float) -> None:
    model: dict[str, Tensor] = load_file(folder / "model.safetensors")
    model[tensor].view(-1)[5] = value
    shutil.rmtree(folder)
    write_model(folder, model, config=CONFIGS["llama"])


def test_a_model_that_joins_with_no_number_leaves_the_merge_alone(
    family: Path, tmp_path: Path
) -> None:
    shutil.copytree(family / "m2", tmp_path / "m4")
    spoil(tmp_path / "m4", MAP, float("nan"))
    for merge, method in (("norms kept", "opcm"), ("covmerge kept", "covmerge")):
        with pytest.raises(NotFiniteError, match=f"{MAP}: element 5 of m4 is nan"):
            mdm_kit.add(family / merge, tmp_path / "out", [addition(tmp_path, 4, method)])
        assert [p.name for p in tmp_path.iterdir()] == ["m4"]


HUNTS = """
import faulthandler, sys
from pathlib import Path
import mdm_kit
from mdm_kit.errors import NotFiniteError
faulthandler.dump_traceback_later(100, exit=True)
root = Path(sys.argv[1])
for recipe in sorted(root.glob("*.yml")):
    for threads in (1, 3):
        out = root / f"{recipe.stem} {threads}"
        try:
            mdm_kit.merge(recipe, out, threads=threads, memory_nbytes=1, shard_nbytes=5000)
            assert recipe.stem.startswith("good")
        except NotFiniteError as error:
            assert recipe.stem.startswith("bad") and "of m2 is nan" in str(error), error
"""


def test_no_run_hangs(tmp_path: Path) -> None:
    """Many small maps, hardly any memory; one fails at the start, in the middle, at the end."""
    kinds = {"self_attn.q_proj.weight": (8, 8), "mlp.up_proj.weight": (12, 8), "norm.weight": (8,)}
    shapes = {f"model.layers.{i}.{n}": s for i in range(8) for n, s in kinds.items()}
    torch.manual_seed(0)
    base = {n: torch.randn(s) for n, s in shapes.items()}
    write_model(tmp_path / "base", base)
    for i in (1, 2, 3):
        tuned = {n: t + 0.1 * torch.randn(t.shape) for n, t in base.items()}
        write_model(tmp_path / f"m{i}", tuned)
    names = list(shapes)
    for at in (0, 13, 22):
        m2 = {n: t + 0.1 * torch.randn(t.shape) for n, t in base.items()}
        m2[names[at]].view(-1)[1] = float("nan")
        for i in (1, 3):
            shutil.copytree(tmp_path / f"m{i}", tmp_path / f"{at}" / f"m{i}")
        shutil.copytree(tmp_path / "base", tmp_path / f"{at}" / "base")
        write_model(tmp_path / f"{at}" / "m2", m2)
    for kind in ("norms kept", "own scales", "covmerge"):
        method, settings, keep = MERGES[kind]
        for at in ("good", 0, 13, 22):
            root, name = (tmp_path, "good") if at == "good" else (tmp_path / f"{at}", f"bad {at}")
            text = growing_recipe(root, method, [1, 2, 3], settings, keep=keep)
            (tmp_path / f"{name} {kind}.yml").write_text(text)
    subprocess.run([sys.executable, "-c", HUNTS, tmp_path], check=True, timeout=120)


def test_what_rounding_cost_is_known_after_a_resume(family: Path, tmp_path: Path) -> None:
    """Of a merge that goes on from rounded weights, and is taken up when half of it is summed."""
    recipe = growing_recipe(family, "opcm", [1, 2], keep="references")
    mdm_kit.merge(recipe, tmp_path / "two")
    new = [addition(family, 3, "opcm")]
    calm = mdm_kit.add(tmp_path / "two", tmp_path / "calm", new).manifest.sums
    running = Running(shard_nbytes=SHARD)
    with pytest.raises(Stopped):
        mdm_kit.add(tmp_path / "two", tmp_path / "out", new, running=running, progress=Stopper(4))
    assert Journal(work_folder(tmp_path / "out") / "journal.jsonl").noise
    found = mdm_kit.add(tmp_path / "two", tmp_path / "out", new, running=running)
    assert found.manifest.sums.rounding == pytest.approx(calm.rounding, rel=1e-9)
    assert calm.rounding > 0


class Stopped(Exception):
    """What ends a merge in the middle."""


class Stopper:
    """Ends a merge after some pieces of output, once all is summed."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._stages = 0

    def start(self, total_nbytes: int, done_nbytes: int) -> None:
        self._stages += 1

    def say(self, text: str) -> None: ...

    def advance(self, nbytes: int) -> None:
        self._left -= self._stages > 1
        if self._left < 0:
            raise Stopped
