"""Recipe files through `--compat mergekit` and mergekit on one torch thread: the same bytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from families import read_model
from llamas import Sizes, write_llamas
from mergekit_runs import assert_same_bits, run_mergekit

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]

RECIPES = {
    "linear": """
dtype: float16
merge_method: linear
models:
  - {model: M1, parameters: {weight: [0.1, 0.9, 0.3]}}
  - {model: M2, parameters: {weight: [{filter: mlp, value: 0.7}, {value: [1, 0.25]}]}}
""",
    "slerp": """
dtype: float32
out_dtype: bfloat16
merge_method: slerp
base_model: BASE
models: [{model: BASE}, {model: M1}]
parameters: {t: [{filter: self_attn, value: [0, 0.3, 1]}, {value: 0.4}]}
""",
    "task arithmetic": """
dtype: float32
merge_method: task_arithmetic
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: [{filter: mlp, value: [1, 0]}, {value: 0.5}]}}
parameters: {lambda: 0.8}
""",
    "ties": """
merge_method: ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3, density: 1.0}}
  - {model: M2, parameters: {weight: [1, 0.2], density: 1.0}}
parameters: {int8_mask: true}
""",
    "karcher, base appended": """
dtype: float16
out_dtype: float32
merge_method: karcher
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "model stock": """
merge_method: model_stock
base_model: BASE
models: [{model: M1}, {model: BASE}, {model: M2}]
""",
    "arcee fusion": """
merge_method: arcee_fusion
base_model: BASE
models: [{model: M1}]
""",
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llamas(tmp_path_factory.mktemp("llamas"), Sizes(3, 48, 80, 1024), torch.bfloat16)


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_a_recipe_file_gives_the_bytes_mergekit_writes(
    family: Path, tmp_path: Path, text: str
) -> None:
    for name in ("BASE", "M1", "M2"):
        text = text.replace(f"model: {name}", f"model: {family / name.lower()}")
    recipe_file = tmp_path / "recipe.yml"
    recipe_file.write_text(text)
    run_mergekit(recipe_file, tmp_path / "theirs", "-j", "1")
    mdm_kit.merge(recipe_file, tmp_path / "ours", compat="mergekit")
    assert_same_bits(read_model(tmp_path / "ours"), read_model(tmp_path / "theirs"))
