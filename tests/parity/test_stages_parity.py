"""A file of several documents, through mergekit-multi and through mdm_kit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import read_model
from llamas import Sizes, write_llamas

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]

PROGRAM = "import sys; from mergekit.scripts.multimerge import main; sys.exit(main())"
RECIPE = """
name: average
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.7}}
  - {model: M2, parameters: {weight: [0.1, 0.9]}}
---
name: layers
merge_method: passthrough
slices:
  - sources: [{model: average, layer_range: [0, 2]}]
  - sources: [{model: M2, layer_range: [1, 3]}]
---
merge_method: slerp
base_model: layers
slices:
  - sources:
      - {model: layers, layer_range: [0, 3]}
      - {model: BASE, layer_range: [0, 3]}
parameters:
  t: [{filter: mlp, value: [0, 1]}, {value: 0.4}]
dtype: float32
"""


def test_every_tensor_is_that_of_mergekit_multi(tmp_path: Path) -> None:
    write_llamas(tmp_path, Sizes(3, 16, 24, 32), torch.float32)
    text = RECIPE
    for name in ("base", "m1", "m2"):
        text = text.replace(name.upper(), str(tmp_path / name))
    file = tmp_path / "recipe.yml"
    file.write_text(text)
    theirs = tmp_path / "theirs"
    words = [file, "--intermediate-dir", tmp_path / "between", "--out-path", theirs, "--quiet"]
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )
    mdm_kit.merge(file, tmp_path / "ours")
    got, want = read_model(tmp_path / "ours"), read_model(theirs)
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        torch.testing.assert_close(got[name], tensor, rtol=2e-6, atol=2e-6, msg=name)
    configs = [json.loads((f / "config.json").read_text()) for f in (tmp_path / "ours", theirs)]
    assert configs[0]["num_hidden_layers"] == configs[1]["num_hidden_layers"] == 3
    # What was published is such a file again, with the models' digests in place of their folders.
    published = (tmp_path / "ours" / "mergekit_config.yml").read_text()
    assert published.count("---\n") == 2
    assert str(tmp_path) not in published
