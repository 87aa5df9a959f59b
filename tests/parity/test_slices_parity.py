"""Recipes that put slices together, through mergekit and through mdm_kit: every tensor, the config.

Models have layers of different number, so that no layer has the same number everywhere.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from families import read_model, write_model
from llamas import Sizes, config, llama
from mergekit_runs import run_mergekit

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]

RECIPES = {
    "repeated and overlapping": """
merge_method: passthrough
slices:
  - sources: [{model: M1, layer_range: [0, 3]}]
  - sources: [{model: M2, layer_range: [1, 5]}]
  - sources:
      - model: M1
        layer_range: [2, 4]
        parameters: {scale: [{filter: o_proj, value: 0}, {value: 1}]}
  - sources: [{model: M1, layer_range: [2, 4]}]
""",
    "shorter": """
merge_method: passthrough
slices:
  - sources: [{model: M2, layer_range: [0, 1]}]
  - sources: [{model: M2, layer_range: [4, 6]}]
""",
    "one slice from the middle": """
merge_method: linear
slices:
  - sources:
      - model: M1
        layer_range: [1, 4]
        parameters: {weight: [{filter: layers.1., value: 2}, {value: [0, 1, 3]}]}
      - model: M2
        layer_range: [2, 5]
        parameters: {weight: [{filter: layers.2., value: 5}, {value: 1}]}
""",
    "gradients restart": """
merge_method: slerp
base_model: M1
slices:
  - sources:
      - {model: M1, layer_range: [0, 2]}
      - {model: M2, layer_range: [2, 4]}
    parameters: {t: [0, 1]}
  - sources:
      - {model: M1, layer_range: [1, 4]}
      - {model: M2, layer_range: [3, 6]}
    parameters:
      t:
        - {filter: self_attn, value: [1, 0.2, 0.6]}
  - sources:
      - {model: M1, layer_range: [3, 4]}
      - {model: M2, layer_range: [0, 1]}
parameters: {t: [0.25, 0.5, 1]}
""",
    "each slice its base": """
merge_method: task_arithmetic
base_model: BASE
slices:
  - sources:
      - {model: BASE, layer_range: [0, 2]}
      - {model: M1, layer_range: [0, 2], parameters: {weight: 0.5}}
  - base_model: M2
    sources:
      - {model: M1, layer_range: [1, 3], parameters: {weight: [1, 0]}}
      - {model: M2, layer_range: [4, 6]}
    parameters: {lambda: 0.75}
""",
    "a base that is no source and has no part": """
merge_method: linear
base_model: BASE
slices:
  - sources:
      - {model: M1, layer_range: [0, 3], parameters: {weight: 0.25}}
      - {model: M2, layer_range: [3, 6], parameters: {weight: 1}}
""",
    "a base that is no source does not count": """
merge_method: karcher
base_model: BASE
slices:
  - sources: [{model: M1, layer_range: [0, 2]}, {model: M2, layer_range: [1, 3]}]
""",
    "the module of most models": """
merge_method: passthrough
modules:
  default:
    slices:
      - sources: [{model: M1, layer_range: [0, 2]}]
      - sources: [{model: M1, layer_range: [1, 3]}]
""",
    "unlike numbers of models": """
merge_method: ties
base_model: BASE
slices:
  - sources:
      - {model: M1, layer_range: [1, 3], parameters: {weight: 0.5}}
      - {model: M2, layer_range: [2, 4], parameters: {weight: [0.1, 2]}}
      - {model: BASE, layer_range: [2, 4]}
    parameters: {density: [0.4, 0.8]}
  - sources:
      - {model: M1, layer_range: [0, 1], parameters: {weight: 0.5, density: 0.5}}
      - {model: BASE, layer_range: [0, 1]}
""",
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("towers")
    for name, layers in (("base", 5), ("m1", 4), ("m2", 6)):
        sizes = Sizes(layers, 16, 24, 32)
        generator = torch.Generator().manual_seed(layers)
        tensors = {
            n: t + 0.3 * torch.randn(t.shape, generator=generator)
            for n, t in llama(sizes, torch.float32).items()
        }
        write_model(root / name, tensors, config=config(sizes, torch.float32))
    return root


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_tensor_is_that_of_mergekit(family: Path, tmp_path: Path, recipe: str) -> None:
    text = recipe
    for name, folder in (("M1", "m1"), ("M2", "m2"), ("BASE", "base")):
        text = text.replace(name, f"{family}/{folder}")
    file = tmp_path / "recipe.yml"
    file.write_text(text)
    run_mergekit(file, tmp_path / "theirs")
    mdm_kit.merge(file, tmp_path / "ours")
    got, want = read_model(tmp_path / "ours"), read_model(tmp_path / "theirs")
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        torch.testing.assert_close(got[name], tensor, rtol=2e-6, atol=2e-6, msg=name)
    configs = [json.loads((tmp_path / w / "config.json").read_text()) for w in ("ours", "theirs")]
    assert configs[0]["num_hidden_layers"] == configs[1]["num_hidden_layers"]
