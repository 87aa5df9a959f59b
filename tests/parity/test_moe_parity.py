"""mergekit-moe's own recipes, unchanged: every expert alike, routers as near as its bfloat16 is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import read_model
from mixtures import recipe, write_dense

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]
_PROGRAM = "import sys; from mergekit.scripts.moe import main; sys.exit(main())"


@pytest.mark.parametrize("mode", ["hidden", "hidden_avg", "cheap_embed"])
def test_routers_are_those_of_mergekit_moe(tmp_path: Path, mode: str) -> None:
    write_dense(tmp_path, "llama")
    text = recipe(tmp_path, mode=mode)
    # Its prompts of one expert are padded to the longest; equal lengths leave nothing to pad.
    text = text.replace("a cat is a cat", "the cat sat on the x")
    file = tmp_path / "moe.yml"
    file.write_text(text)
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, file, tmp_path / "theirs", "--quiet"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )
    mdm_kit.merge(file, tmp_path / "ours")
    got, want = read_model(tmp_path / "ours"), read_model(tmp_path / "theirs")
    for i in range(3):
        ours = got[f"model.layers.{i}.block_sparse_moe.gate.weight"].double()
        theirs = want[f"model.layers.{i}.mlp.gate.weight"].double()
        nearness = (ours * theirs).sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1))
        assert nearness.min() > 0.9995, nearness
        down = want[f"model.layers.{i}.mlp.experts.down_proj"]
        for e in range(2):
            expert = got[f"model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight"]
            torch.testing.assert_close(down[e], expert, rtol=0, atol=0)
