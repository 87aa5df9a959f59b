"""Recipes of several stages of models that are read by range: each byte comes once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from large_models import MEMORY, stored
from ranged_merges import Merges, content, data_nbytes, weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hub

STREAMED = """
name: between
merge_method: ties
base_model: WHERE/base
models: [{model: WHERE/a}, {model: WHERE/b}]
parameters: {weight: 0.5, density: 0.5}
---
merge_method: linear
models: [{model: between}, {model: WHERE/c}]
parameters: {weight: 0.5}
"""
THROUGH_DISK = STREAMED.replace("ties", "mdm_oc").replace("density: 0.5", "scope: global")
N, SHAPE = 4, (1536, 1024)
EACH = N * 2 * SHAPE[0] * SHAPE[1]


def write(folder: Path, seed: int) -> None:
    values = np.random.default_rng(seed)
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(N)]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"num_hidden_layers": 4, "dtype": "float16"}')
    tensors = [(n, values.standard_normal(SHAPE).astype(np.float16)) for n in names]
    (folder / "model.safetensors").write_bytes(stored(tensors))


@pytest.mark.parametrize(("recipe", "times"), [(STREAMED, 4), (THROUGH_DISK, 7)])
def test_models_come_by_range(merges: Merges, tmp_path: Path, recipe: str, times: int) -> None:
    for seed, name in enumerate(("base", "a", "b", "c")):
        write(tmp_path / name, seed)
        merges.hub.repo_folder(f"org/{name}", tmp_path / name)
    (merges.client.home / "r.yml").write_text(recipe.replace("WHERE", "org"))
    planned = merges.run("plan", "r.yml", "--json", *MEMORY)
    assert planned["code"] == 0, planned["err"]
    plan = json.loads(planned["out"])
    assert [s["name"] for s in plan["stages"]] == ["between"]
    before = len(merges.hub.log)
    answer = merges.run("merge", "r.yml", "out", *MEMORY)
    assert answer["code"] == 0, answer["err"]
    log = merges.hub.log[before:]
    # The base and two models, twice where they are measured first, and the last.
    assert data_nbytes(log) <= plan["costs"]["download_nbytes"] * 1.05
    assert data_nbytes(log) < 1.05 * times * EACH
    assert len(content(log)) < 12 * times
    (tmp_path / "here.yml").write_text(recipe.replace("WHERE", str(tmp_path)))
    command = [sys.executable, "-m", "mdm_kit", "merge", str(tmp_path / "here.yml")]
    subprocess.run([*command, str(tmp_path / "here")], check=True, capture_output=True, timeout=120)
    assert weights(merges.out) == weights(tmp_path / "here")
    answer = merges.run("verify", "out", "--deep")
    assert answer["code"] == 0, answer["err"]
