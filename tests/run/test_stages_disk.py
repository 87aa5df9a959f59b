"""Stages that go through disk: the room they take, when they go, and going on after a stop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from families import fine_tuned, write_model
from staged import content, filled, one_by_one

import mdm_kit
from mdm_kit.bundle.stage import work_folder

N, SHAPE = 6, (256, 512)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("staged_disk")
    torch.manual_seed(0)
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(N)]
    base = {name: torch.randn(SHAPE).to(torch.bfloat16) for name in names}
    write_model(root / "base", base)
    for i in (1, 2, 3):
        write_model(root / f"m{i}", fine_tuned(base, i))
    return root


GLOBAL = """\
name: NAME
merge_method: mdm_oc
base_model: BASE
models: [{model: ONE}, {model: M2}]
parameters: {weight: 0.5, scope: global}
"""
AVERAGE = """\
merge_method: linear
models: [{model: ONE}, {model: M3}]
parameters: {weight: 0.5}
"""


def through_disk(name: str, one: str) -> str:
    return GLOBAL.replace("NAME", name).replace("ONE", one)


CHAINS = {
    "one": [through_disk("a", "M1"), AVERAGE.replace("ONE", "a")],
    "one behind the other": [
        through_disk("a", "M1"),
        through_disk("b", "a"),
        through_disk("c", "b"),
        AVERAGE.replace("ONE", "c"),
    ],
    "through a streamed one": [
        through_disk("a", "M1"),
        "name: b\n" + AVERAGE.replace("ONE", "a"),
        AVERAGE.replace("ONE", "b"),
    ],
    "two at the end": [
        through_disk("a", "M1"),
        through_disk("b", "M3"),
        AVERAGE.replace("ONE", "a").replace("M3", "b"),
    ],
}
MODEL = N * 2 * SHAPE[0] * SHAPE[1]
MODELS_AT_ONCE = {
    "one": 2,
    "one behind the other": 2,
    "through a streamed one": 2,
    "two at the end": 3,
}


class DiskWatch:
    """Notes the room the work folder takes, and stops the merge at its `last` step."""

    def __init__(self, work: Path, last: int = 10**9) -> None:
        self.work, self.most, self.left, self.said = work, 0, last, list[str]()

    def start(self, total_nbytes: int, done_nbytes: int) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, nbytes: int) -> None:
        found = [p.stat() for p in self.work.rglob("*") if p.is_file()]
        self.most = max(self.most, sum({s.st_ino: 512 * s.st_blocks for s in found}.values()))
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("chain", CHAINS)
def test_the_disk_is_what_the_plan_says(family: Path, tmp_path: Path, chain: str) -> None:
    text = filled(family, "---\n".join(CHAINS[chain]))
    watch = DiskWatch(work_folder(tmp_path / "out"))
    with mdm_kit.plan(text) as plan:
        planned = plan.costs.disk_nbytes
    mdm_kit.merge(text, tmp_path / "out", progress=watch)
    assert 0.9 * planned - 32_768 < watch.most < planned + 32_768
    assert MODELS_AT_ONCE[chain] * MODEL <= watch.most < (MODELS_AT_ONCE[chain] + 0.1) * MODEL
    assert content(tmp_path / "out") == content(one_by_one(text, tmp_path / "each"))


def test_a_streamed_stage_takes_no_disk(family: Path, tmp_path: Path) -> None:
    text = "name: a\n" + AVERAGE.replace("ONE", "M1") + "---\n" + AVERAGE.replace("ONE", "a")
    watch = DiskWatch(work_folder(tmp_path / "out"))
    mdm_kit.merge(filled(family, text), tmp_path / "out", progress=watch)
    assert MODEL <= watch.most < 1.1 * MODEL


@pytest.mark.parametrize("chain", ["one behind the other", "two at the end"])
def test_an_interrupted_merge_goes_on(family: Path, tmp_path: Path, chain: str) -> None:
    text = filled(family, "---\n".join(CHAINS[chain]))
    calm = mdm_kit.merge(text, tmp_path / "calm", shard_nbytes=MODEL // 3)
    out, made = tmp_path / "out", list[str]()
    for last in (3, 6, 6, 6, 6, 6, 6, 6, 6):
        watch = DiskWatch(work_folder(out), last)
        try:
            found = mdm_kit.merge(text, out, shard_nbytes=MODEL // 3, progress=watch)
        except KeyboardInterrupt:
            assert not out.exists()
        else:
            break
        finally:
            made += [s for s in watch.said if s.startswith("merging the stage")]
    assert found.shards == calm.shards
    assert content(out) == content(tmp_path / "calm")
    assert not work_folder(out).exists()
    assert len(made) < 3 * len(CHAINS[chain])


def test_a_finished_stage_is_not_made_again_and_a_damaged_one_is(
    family: Path, tmp_path: Path
) -> None:
    text = filled(family, "---\n".join(CHAINS["one"]))
    calm = mdm_kit.merge(text, tmp_path / "calm")
    out = tmp_path / "out"
    stopped = DiskWatch(work_folder(out), 2)
    with pytest.raises(KeyboardInterrupt):
        mdm_kit.merge(text, out, progress=stopped)
    stage = work_folder(out) / "stages" / "001" / "model.safetensors"
    assert stage.is_file()
    kept = tmp_path / "kept"
    shutil.copytree(work_folder(out), kept)
    going_on = DiskWatch(work_folder(out))
    assert mdm_kit.merge(text, out, progress=going_on).shards == calm.shards
    assert "merging the stage a" not in going_on.said
    shutil.rmtree(out)
    data = bytearray((kept / "stages" / "001" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (kept / "stages" / "001" / "model.safetensors").write_bytes(data)
    kept.rename(work_folder(out))
    again = DiskWatch(work_folder(out))
    assert mdm_kit.merge(text, out, progress=again).shards == calm.shards
    assert "merging the stage a" in again.said


def test_another_recipe_does_not_take_the_stages_over(family: Path, tmp_path: Path) -> None:
    text = filled(family, "---\n".join(CHAINS["one"]))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        mdm_kit.merge(text, out, progress=DiskWatch(work_folder(out), 2))
    other = text.replace("scope: global", "scope: global, orthogonalize: lowdin")
    with pytest.raises(mdm_kit.errors.UsageError, match="interrupted merge of another plan"):
        mdm_kit.merge(other, out)
    fresh = mdm_kit.merge(other, out, restart="fresh")
    assert fresh.shards == mdm_kit.merge(other, tmp_path / "calm").shards


def test_a_stage_nobody_reads_is_not_made(family: Path, tmp_path: Path) -> None:
    text = through_disk("a", "M1") + "---\n" + AVERAGE.replace("ONE", "M1")
    watch = DiskWatch(work_folder(tmp_path / "out"))
    mdm_kit.merge(filled(family, text), tmp_path / "out", progress=watch)
    assert not any("stage" in s for s in watch.said)
    assert watch.most < 1.1 * MODEL
