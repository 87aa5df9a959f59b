"""The same models and recipe end in the same bytes, however the work was cut or interrupted."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import odd_maps
import pytest
import torch
from continual import growing_recipe
from families import Spec, read_model, write_model
from merged_families import BLOCK, CROSSING, promised, recipe, write_related
from reference.exact import bits
from safetensors.torch import load_file, save_file

import mdm_kit
from mdm_kit.bundle.stage import work_folder

SHARD = 200_000


class Interrupted(Exception):
    """What a listener raises to end a merge in the middle."""


class Interrupter:
    """Lets a merge report `left` pieces of output and then ends it."""

    def __init__(self, left: int) -> None:
        self._left = left

    def start(self, total_nbytes: int, done_nbytes: int) -> None: ...

    def say(self, text: str) -> None: ...

    def advance(self, nbytes: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise Interrupted


@pytest.mark.parametrize("how", ["gram_schmidt", "lowdin", "none"])
@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_threads_and_memory_do_not_show(tmp_path: Path, scope: str, how: str) -> None:
    write_related(tmp_path, "0.9")
    text, seen = recipe(tmp_path, parameters=f"scope: {scope}, orthogonalize: {how}"), set()
    for i, (threads, memory) in enumerate(itertools.product((1, 4), (1, 2_000_000_000))):
        out = tmp_path / f"out{i}"
        mdm_kit.merge(text, out, threads=threads, memory_nbytes=memory, shard_nbytes=SHARD)
        seen.add(tuple(promised(out).items()))
    assert len(seen) == 1
    assert len(seen.pop()) > 4  # several shards, their index and the ledger


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_hash_seeds_and_other_libraries_threads_do_not_show(tmp_path: Path, scope: str) -> None:
    write_related(tmp_path, "0.999999999")
    path, seen = tmp_path / "recipe.yml", set()
    path.write_text(recipe(tmp_path, parameters=f"scope: {scope}"))
    for seed, threads, memory in (("0", "1", "1kB"), ("4321", "3", "2GB")):
        out = tmp_path / seed
        subprocess.run(
            [
                *(sys.executable, "-m", "mdm_kit", "merge", path, out, "--threads", threads),
                *("--max-memory", memory, "--shard-size", "200kB"),
            ],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
            check=True,
            capture_output=True,
        )
        seen.add(tuple(promised(out).items()))
    assert len(seen) == 1


@pytest.mark.parametrize("kind", ["0.3", "0.999999999"])
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_a_resumed_merge_ends_in_the_same_bytes(tmp_path: Path, scope: str, kind: str) -> None:
    """Taken up with other threads and another budget than it was left with."""
    write_related(tmp_path, kind)
    text = recipe(tmp_path, parameters=f"scope: {scope}")
    mdm_kit.merge(text, tmp_path / "calm", shard_nbytes=SHARD)
    settings = itertools.cycle([(1, 2_000_000_000), (4, 1)])
    for steps in (0, 2, 4):
        out = tmp_path / f"after {steps}"
        (threads, memory), (others, other) = next(settings), next(settings)
        if steps == 2:
            threads, memory, others, other = others, other, threads, memory
        with pytest.raises(Interrupted):
            mdm_kit.merge(
                text,
                out,
                threads=threads,
                memory_nbytes=memory,
                shard_nbytes=SHARD,
                progress=Interrupter(steps),
            )
        assert not out.exists()
        left = [*work_folder(out).rglob("*.safetensors")]
        assert bool(left) == (steps > 0)
        mdm_kit.merge(text, out, threads=others, memory_nbytes=other, shard_nbytes=SHARD)
        assert promised(out) == promised(tmp_path / "calm")


def test_shards_of_models_and_output_do_not_show_in_a_tensor(tmp_path: Path) -> None:
    base, models = write_related(tmp_path, "0.3")
    for name, model in (("base", base), *((f"m{i}", m) for i, m in enumerate(models, start=1))):
        write_model(tmp_path / "sharded" / name, dict(reversed(model.items())), n_shards=3)
    for scope in ("tensor", "global"):
        found = []
        for root, shard in ((tmp_path, SHARD), (tmp_path / "sharded", 5_000_000)):
            text = recipe(root, parameters=f"scope: {scope}")
            mdm_kit.merge(text, root / scope, shard_nbytes=shard)
            got = read_model(root / scope)
            found.append({n: bits(t) for n, t in sorted(got.items())})
            ledger = (root / scope / "mdm_ledger.safetensors").read_bytes()
            found[-1]["the ledger"] = ledger
        assert found[0] == found[1]


def test_a_close_third_model_settles_first_reading_and_second_alike(tmp_path: Path) -> None:
    """Tiles of a tensor read once, and of one read twice, meet the same compensated sums."""
    spec: Spec = {"w": ((1_100_003,), torch.bfloat16), "v": ((BLOCK + 1,), torch.float64)}
    write_related(tmp_path, "0.999999999", spec)
    seen = set()
    for i, (threads, memory) in enumerate(((1, 1), (3, 2_000_000_000), (2, 9_000_000))):
        out = tmp_path / f"out{i}"
        mdm_kit.merge(recipe(tmp_path), out, threads=threads, memory_nbytes=memory)
        seen.add(tuple(promised(out).items()))
    assert len(seen) == 1
    assert sorted(CROSSING) != sorted(spec)


SUMS = {
    "opcm": ("opcm", ""),
    "opcm, scaled": ("opcm", "scale: 0.7, variant: paper"),
    "opcm, by tensor": ("opcm", "scale_scope: tensor"),
    "covmerge": ("covmerge", ""),
    "covmerge, bare": ("covmerge", "ridge: 0"),
}


@pytest.mark.parametrize("kind", SUMS)
def test_sums_show_no_threads_memory_hash_seed_or_resume(tmp_path: Path, kind: str) -> None:
    """In maps of every kind, one of them longer than what is multiplied at once."""
    method, settings = SUMS[kind]
    odd_maps.write(tmp_path, "mixed", 3, 0.3)
    for name in ("base", "m1", "m2", "m3"):
        file = tmp_path / name / "model.safetensors"
        torch.manual_seed(len(name) + ord(name[-1]))
        long = {"model.layers.0.mlp.up_proj.weight": torch.randn(4100, 33)}
        save_file(load_file(file) | long, file)
    path, seen = tmp_path / "recipe.yml", set()
    path.write_text(growing_recipe(tmp_path, method, [1, 2, 3], settings, keep="none"))
    for i, (threads, memory) in enumerate(itertools.product((1, 4), (1, 2_000_000_000))):
        out = tmp_path / f"out{i}"
        if i:
            with pytest.raises(Interrupted):
                mdm_kit.merge(path, out, shard_nbytes=SHARD, progress=Interrupter(i))
        mdm_kit.merge(path, out, threads=threads, memory_nbytes=memory, shard_nbytes=SHARD)
        seen.add(tuple(promised(out).items()))
    if kind in ("opcm", "covmerge"):
        subprocess.run(
            [
                *(sys.executable, "-m", "mdm_kit", "merge", path, tmp_path / "child"),
                *("--threads", "3", "--shard-size", "200kB"),
            ],
            env={**os.environ, "PYTHONHASHSEED": "4321", "OMP_NUM_THREADS": "2"},
            check=True,
            capture_output=True,
        )
        seen.add(tuple(promised(tmp_path / "child").items()))
    assert len(seen) == 1
