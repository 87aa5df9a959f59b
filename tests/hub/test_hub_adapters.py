"""Adapters and their base on the Hub: the base comes once, however many adapters are on it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from adapters import factors, write_adapter
from large_models import MEMORY, stored
from ranged_merges import Merges, data_nbytes, weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hub

ROWS, COLUMNS, LAYERS = 512, 1200, 4
RECIPE = """
merge_method: METHOD
base_model: WHERE/base
models:
  - {model: WHERE/base+WHERE/math, parameters: {weight: 0.5}}
  - {model: WHERE/base+WHERE/code, parameters: {weight: 0.75}}
seed: 1
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    values = np.random.default_rng(0)
    modules = {f"model.layers.{i}.mlp.{p}": (ROWS, COLUMNS) for i in range(LAYERS) for p in "ab"}
    names = [*(f"{m}.weight" for m in modules), "model.norm.weight"]
    tensors = [(n, values.standard_normal((ROWS, COLUMNS)).astype(np.float16)) for n in names]
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text('{"dtype": "float16", "model_type": "llama"}')
    (tmp_path / "base/model.safetensors").write_bytes(stored(sorted(tensors)))
    for seed, name in enumerate(("math", "code")):
        own = factors(modules, seed=seed)
        write_adapter(tmp_path / name, own, base_model_name_or_path="org/base")
    return tmp_path


@pytest.mark.parametrize("method", ["mdm_oc", "covmerge", "dare_ties", "linear"])
def test_base_and_adapters_come_once(merges: Merges, models: Path, method: str) -> None:
    for name in ("base", "math", "code"):
        merges.hub.repo_folder(f"org/{name}", models / name)
    text = RECIPE.replace("METHOD", method)
    if method == "dare_ties":
        text += "parameters: {density: 0.5}\n"
    (merges.client.home / "r.yml").write_text(text.replace("WHERE", "org"))
    planned = merges.run("plan", "r.yml", "--json", *MEMORY)
    assert planned["code"] == 0, planned["err"]
    assert "trained on" not in planned["err"] + planned["out"]
    before = len(merges.hub.log)
    answer = merges.run("merge", "r.yml", "out", *MEMORY)
    assert answer["code"] == 0, answer["err"]
    sent = data_nbytes(merges.hub.log[before:])
    base = (LAYERS * 2 + 1) * ROWS * COLUMNS * 2
    adapters = sum(
        (models / n / "adapter_model.safetensors").stat().st_size for n in ("math", "code")
    )
    announced = json.loads(planned["out"])["costs"]["download_nbytes"]
    assert base <= sent <= base + adapters + 50_000
    assert sent <= announced + 50_000
    assert announced <= base + adapters
    (models / "here.yml").write_text(text.replace("WHERE", str(models)))
    command = [sys.executable, "-m", "mdm_kit", "merge", str(models / "here.yml")]
    subprocess.run([*command, str(models / "here")], check=True, capture_output=True, timeout=120)
    assert weights(merges.out) == weights(models / "here")
    manifest = json.loads((merges.out / "mdm_manifest.json").read_text())
    assert manifest["sources"][1]["adapter"]["repo"] == "org/math"
    for command_line in (("verify", "--deep", "out"), ("unmerge", "out", "less", "--drop", "math")):
        answer = merges.run(*command_line)
        assert answer["code"] == 0, answer["err"]
