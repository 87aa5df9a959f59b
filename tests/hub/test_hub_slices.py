"""Slices of models that are read by range: layers twice in the result are fetched as planned."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from large_models import MEMORY, stored
from ranged_merges import Merges, data_nbytes, weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hub

RECIPE = """
merge_method: passthrough
slices:
  - sources: [{model: WHERE/a, layer_range: [0, 3]}]
  - sources: [{model: WHERE/b, layer_range: [1, 4]}]
  - sources: [{model: WHERE/a, layer_range: [1, 3]}]
"""


def write(folder: Path, seed: int) -> None:
    values = np.random.default_rng(seed)
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    names += [f"model.layers.{i}.{part}.weight" for i in range(4) for part in ("up", "down")]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"num_hidden_layers": 4, "dtype": "float16"}')
    tensors = [(n, values.standard_normal((512, 1200)).astype(np.float16)) for n in sorted(names)]
    (folder / "model.safetensors").write_bytes(stored(tensors))


def test_repeated_layers_come_by_range(merges: Merges, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        write(tmp_path / name, seed)
        merges.hub.repo_folder(f"org/{name}", tmp_path / name)
    (merges.client.home / "r.yml").write_text(RECIPE.replace("WHERE", "org"))
    planned = merges.run("plan", "r.yml", "--json", *MEMORY)
    assert planned["code"] == 0, planned["err"]
    before = len(merges.hub.log)
    answer = merges.run("merge", "r.yml", "out", *MEMORY)
    assert answer["code"] == 0, answer["err"]
    sent = data_nbytes(merges.hub.log[before:])
    each = 512 * 1200 * 2
    announced = json.loads(planned["out"])["costs"]["download_nbytes"]
    # 14 tensors of the models, four of them twice; kept for the second time where there is room.
    assert 14 * each <= sent <= announced < 18.1 * each
    (tmp_path / "here.yml").write_text(RECIPE.replace("WHERE", str(tmp_path)))
    command = [sys.executable, "-m", "mdm_kit", "merge", str(tmp_path / "here.yml")]
    subprocess.run([*command, str(tmp_path / "here")], check=True, capture_output=True, timeout=120)
    assert weights(merges.out) == weights(tmp_path / "here")
    answer = merges.run("verify", "out")
    assert answer["code"] == 0, answer["err"]
