"""A merge that is killed loses nothing, mixes nothing, and ends in the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from families import fine_tuned, write_family, write_model

import mdm_kit
from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.bundle.stage import Stage, work_folder
from mdm_kit.errors import OutputLocked, UsageError
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.run.journal import Journal

SHARD = 3000
DIES_AFTER = """
import os, signal, sys
import mdm_kit
class Killer:
    left = int(sys.argv[4])
    def start(self, total, done): pass
    def say(self, text): pass
    def advance(self, nbytes):
        Killer.left -= 1
        if Killer.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
mdm_kit.merge(sys.argv[1], sys.argv[2], shard_nbytes=int(sys.argv[3]), progress=Killer())
"""


def weights(folder: Path) -> dict[str, bytes]:
    """Everything whose bytes are promised: weights, index, config; not card and manifest."""
    return {
        p.name: p.read_bytes()
        for p in sorted(folder.iterdir())
        if p.suffix == ".safetensors" or p.name in ("model.safetensors.index.json", "config.json")
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_family(tmp_path, n=2)
    path = tmp_path / "recipe.yml"
    path.write_text(
        f"merge_method: task_arithmetic\nbase_model: {tmp_path}/base\nmodels:\n"
        f"  - {{model: {tmp_path}/m1, parameters: {{weight: 0.5}}}}\n"
        f"  - {{model: {tmp_path}/m2, parameters: {{weight: 0.25}}}}\n"
    )
    return path


def die(recipe: Path, out: Path, after: int) -> None:
    """Merge in a process that kills itself after `after` steps of progress."""
    arguments = [str(recipe), str(out), str(SHARD), str(after)]
    ended = subprocess.run([sys.executable, "-c", DIES_AFTER, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_killed_merge_ends_in_the_bytes_of_an_undisturbed_one(
    recipe: Path, tmp_path: Path, after: int
) -> None:
    mdm_kit.merge(recipe, tmp_path / "calm", shard_nbytes=SHARD)
    out = tmp_path / "out"
    die(recipe, out, after)
    assert not out.exists()
    finished = {
        p.name: p.stat().st_mtime_ns for p in (work_folder(out) / "model").glob("*.safetensors")
    }
    assert bool(finished) == (after > 3)
    mdm_kit.merge(recipe, out, shard_nbytes=SHARD)
    assert weights(out) == weights(tmp_path / "calm")
    assert not work_folder(out).exists()
    for name, written in finished.items():
        assert (out / name).stat().st_mtime_ns == written, "a finished shard was written again"


def test_a_damaged_shard_is_computed_anew(recipe: Path, tmp_path: Path) -> None:
    mdm_kit.merge(recipe, tmp_path / "calm", shard_nbytes=SHARD)
    out = tmp_path / "out"
    die(recipe, out, 4)
    shard = next((work_folder(out) / "model").glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    mdm_kit.merge(recipe, out, shard_nbytes=SHARD)
    assert weights(out) == weights(tmp_path / "calm")


def test_a_torn_journal_line_is_as_if_never_written(recipe: Path, tmp_path: Path) -> None:
    mdm_kit.merge(recipe, tmp_path / "calm", shard_nbytes=SHARD)
    out = tmp_path / "out"
    die(recipe, out, 4)
    journal = work_folder(out) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])
    mdm_kit.merge(recipe, out, shard_nbytes=SHARD)
    assert weights(out) == weights(tmp_path / "calm")


def test_a_torn_line_hides_nothing_behind_it(tmp_path: Path) -> None:
    a, b = ShardDigests("a", ("x", "y")), ShardDigests("b", ())
    journal = Journal(tmp_path / "j")
    journal.start("key")
    journal.finished("one", a, {}, {})
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"shard": "tor')
    Journal(tmp_path / "j").finished("two", b, {"w": Gram((1.0,))}, {"w": Gram((2.0,))})
    found = Journal(tmp_path / "j")
    assert (found.key, found.shards) == ("key", {"one": a, "two": b})
    assert found.time == journal.time
    assert (found.grams, found.exact) == ({"w": Gram((1.0,))}, {"w": Gram((2.0,))})


def test_another_plan_is_refused_and_fresh_starts_anew(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    die(recipe, out, 4)
    before = sorted(p.name for p in work_folder(out).rglob("*"))
    other = tmp_path / "other.yml"
    other.write_text(recipe.read_text().replace("0.25", "0.75"))
    for restart in ("auto", "resume"):
        with pytest.raises(UsageError, match="another plan.*--fresh"):
            mdm_kit.merge(other, out, shard_nbytes=SHARD, restart=restart)
    assert sorted(p.name for p in work_folder(out).rglob("*")) == before
    mdm_kit.merge(other, out, shard_nbytes=SHARD, restart="fresh")
    mdm_kit.merge(other, tmp_path / "calm", shard_nbytes=SHARD)
    assert weights(out) == weights(tmp_path / "calm")


def test_a_source_that_changed_since_is_not_mixed_in(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    die(recipe, out, 4)
    file = tmp_path / "m1" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UsageError, match="a model that changed since"):
        mdm_kit.merge(recipe, out, shard_nbytes=SHARD)


def test_a_source_that_changes_meanwhile_stops_the_merge(recipe: Path, tmp_path: Path) -> None:
    class Meddler:
        def start(self, total_nbytes: int, done_nbytes: int) -> None:
            os.utime(tmp_path / "m2" / "model.safetensors", ns=(1, 1))

        def advance(self, nbytes: int) -> None: ...

        def say(self, text: str) -> None: ...

    with pytest.raises(mdm_kit.errors.IntegrityError, match="m2 changed while"):
        mdm_kit.merge(recipe, tmp_path / "out", progress=Meddler())
    assert not (tmp_path / "out").exists()
    assert not work_folder(tmp_path / "out").exists()


def test_two_writers_of_one_output_do_not_meet(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Stage(out) as stage:
        with pytest.raises(OutputLocked, match="another process"):
            mdm_kit.merge(recipe, out)
        stage.discard()
    mdm_kit.merge(recipe, out)


def test_overwrite_exchanges_the_folder_whole(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mdm_kit.merge(recipe, out)
    first = weights(out)
    (out / "stale.safetensors").write_bytes(b"")
    recipe.write_text(recipe.read_text().replace("0.25", "0.75"))
    with pytest.raises(mdm_kit.errors.OutputExists, match="--overwrite"):
        mdm_kit.merge(recipe, out)
    assert weights(out) == {**first, "stale.safetensors": b""}
    mdm_kit.merge(recipe, out, overwrite=True)
    assert weights(out) != first
    assert not (out / "stale.safetensors").exists()
    assert mdm_kit.verify(out).sound


@pytest.mark.parametrize("place", ["m1", "m1/inside", "."])
def test_an_output_that_is_an_input_is_refused(recipe: Path, tmp_path: Path, place: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError):
        mdm_kit.merge(recipe, tmp_path / place, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_somebody_elses_folder_is_never_replaced(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("hours of work")
    with pytest.raises(mdm_kit.errors.OutputExists, match="did not write"):
        mdm_kit.merge(recipe, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "hours of work"


def test_an_empty_folder_is_a_fine_output(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    mdm_kit.merge(recipe, tmp_path / "out")
    assert mdm_kit.verify(tmp_path / "out").sound


def test_no_room_is_said_before_the_work(recipe: Path, tmp_path: Path) -> None:
    size = 1 << 36  # a tensor of 64 GiB, in a sparse file
    disk = os.statvfs(tmp_path)
    n = disk.f_bavail * disk.f_frsize // size + 2
    header = {
        f"w{i}": {
            "dtype": "F32",
            "shape": [1 << 20, 1 << 14],
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i in range(n)
    }
    text = json.dumps(header).encode()
    for name in ("big1", "big2"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + n * size)
    recipe.write_text(
        "merge_method: linear\nmodels:\n"
        f"  - {{model: {tmp_path}/big1, parameters: {{weight: 1}}}}\n"
        f"  - {{model: {tmp_path}/big2, parameters: {{weight: 1}}}}\n"
    )
    with pytest.raises(mdm_kit.errors.RoomError, match="needs .* left"):
        mdm_kit.merge(recipe, tmp_path / "out")
    assert not work_folder(tmp_path / "out").exists()


def test_new_files_have_the_mode_of_any_new_file(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    mdm_kit.merge(recipe, tmp_path / "out")
    want = (tmp_path / "probe").stat().st_mode
    assert {p.stat().st_mode for p in (tmp_path / "out").iterdir()} == {want}


def test_models_of_one_shape_are_told_apart_after_a_kill(recipe: Path, tmp_path: Path) -> None:
    """Two folders with equal headers are different models, even with equal times."""
    base = write_family(tmp_path / "f2", n=1)["base"]
    write_model(tmp_path / "m3", fine_tuned(base, 99), config={"torch_dtype": "bfloat16"})
    times = (1_000_000_000, 1_000_000_000)
    for name in ("m2", "m3"):
        os.utime(tmp_path / name / "model.safetensors", ns=times)
    die(recipe, tmp_path / "out", 4)
    recipe.write_text(recipe.read_text().replace("/m2", "/m3"))
    with pytest.raises(UsageError, match="another plan"):
        mdm_kit.merge(recipe, tmp_path / "out", shard_nbytes=SHARD)


DIES_SEALED = """
import os, sys
import mdm_kit
from mdm_kit.bundle.stage import Stage
Stage.discard = lambda self: os._exit(9)
mdm_kit.merge(sys.argv[1], sys.argv[2], overwrite=True, shard_nbytes=1_000_000)
"""


def test_a_kill_right_after_the_exchange_leaves_no_stale_file(recipe: Path, tmp_path: Path) -> None:
    """Then the work folder holds the old output, and the journal still names the new merge."""
    out = tmp_path / "out"
    mdm_kit.merge(recipe, out, shard_nbytes=SHARD)
    ended = subprocess.run([sys.executable, "-c", DIES_SEALED, recipe, out], check=False)
    assert ended.returncode == 9
    assert mdm_kit.verify(out).sound
    assert [p.name for p in out.glob("*.safetensors")] == ["model.safetensors"]
    mdm_kit.merge(recipe, out, overwrite=True, shard_nbytes=1_000_000)
    assert mdm_kit.verify(out).sound
    assert [p.name for p in out.glob("*.safetensors")] == ["model.safetensors"]


def test_side_files_of_an_interrupted_merge_are_written_anew(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text() + "license: mit\n")
    program = (
        "import os, sys, mdm_kit\nfrom mdm_kit.bundle.stage import Stage\n"
        "Stage.seal = lambda self, **_: os._exit(9)\nmdm_kit.merge(sys.argv[1], sys.argv[2])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, recipe, tmp_path / "out"], check=False)
    assert ended.returncode == 9
    recipe.write_text(recipe.read_text().replace("license: mit\n", ""))
    mdm_kit.merge(recipe, tmp_path / "out")
    assert (tmp_path / "out" / "mergekit_config.yml").exists()
    assert not (tmp_path / "out" / "mdm_recipe.yml").exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "elsewhere", "large"])
def test_a_side_file_that_cannot_be_copied_is_known_before_the_work(
    recipe: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "base" / "tokenizer.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(70 << 20)
    else:
        path.symlink_to("/etc/passwd" if kind == "elsewhere" else "nowhere")
    with mdm_kit.plan(recipe) as plan:
        assert plan.exit_code == 4
    with pytest.raises(mdm_kit.errors.FindingsError, match=r"tokenizer\.json"):
        mdm_kit.merge(recipe, tmp_path / "out")
    assert not work_folder(tmp_path / "out").exists()


@pytest.mark.parametrize(
    "config",
    [
        '{"torch_dtype": ["float32"]}',
        '{"text_config": {"dtype": {}}}',
        '{"x": "\\ud800", "dtype": "float16"}',
    ],
)
def test_an_odd_config_is_no_obstacle(recipe: Path, tmp_path: Path, config: str) -> None:
    (tmp_path / "base" / "config.json").write_text(config)
    recipe.write_text(recipe.read_text() + "dtype: bfloat16\n")
    mdm_kit.merge(recipe, tmp_path / "out")
    assert mdm_kit.verify(tmp_path / "out").sound


@pytest.mark.parametrize("config", ['"gptq"', '["a"]', '[{"quant_method": "gptq"}]', "true"])
def test_quantised_by_any_sign(recipe: Path, tmp_path: Path, config: str) -> None:
    (tmp_path / "m1" / "config.json").write_text(f'{{"quantization_config": {config}}}')
    with mdm_kit.plan(recipe) as plan:
        assert plan.exit_code == 3
