"""The same recipe file through mergekit and through mdm_kit: parameters and dtypes reach alike."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import fine_tuned, random_tensor, read_model, write_model

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]

N_LAYERS = 4
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": N_LAYERS,
    "vocab_size": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def llama(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    shapes = {
        "model.embed_tokens.weight": (32, 16),
        "model.norm.weight": (16,),
        "lm_head.weight": (32, 16),
    }
    for i in range(N_LAYERS):
        at = f"model.layers.{i}"
        for p in "qkvo":
            shapes[f"{at}.self_attn.{p}_proj.weight"] = (16, 16)
        shapes |= {f"{at}.mlp.{p}_proj.weight": (24, 16) for p in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (16, 24)
        shapes |= {f"{at}.{n}_layernorm.weight": (16,) for n in ("input", "post_attention")}
    generator = torch.Generator().manual_seed(3)
    return {n: random_tensor(s, dtype, generator) for n, s in shapes.items()}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("llamas")
    for dtype in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        base = llama(dtype)
        config = CONFIG | {"torch_dtype": short}
        write_model(root / f"base-{short}", base, config=config)
        for i in (1, 2):
            write_model(root / f"m{i}-{short}", fine_tuned(base, i), config=config)
    return root


RECIPES = {
    "linear": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
""",
    "linear unnormalized": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize: false}
""",
    "gradients": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: [0.1, 0.9]}}
  - {model: M2, parameters: {weight: [1, 0.25, 0.5]}}
""",
    "filters": """
merge_method: linear
models:
  - model: M1
    parameters:
      weight:
        - {filter: self_attn, value: [0.0, 1.0, 0.5]}
        - {filter: mlp.down, value: 2.0}
        - {value: 0.5}
  - model: M2
    parameters: {weight: 1.0}
""",
    "filters that fall through to the top": """
merge_method: linear
models:
  - model: M1
    parameters: {weight: [{filter: mlp, value: 0.75}]}
  - model: M2
parameters:
  weight: [{filter: norm, value: 3.0}, {filter: "*", value: [0.2, 0.4]}]
""",
    "a lone filter": """
merge_method: linear
models:
  - model: M1
    parameters: {weight: {filter: mlp, value: 0.75}}
  - model: M2
parameters: {weight: 1}
""",
    "a gradient of truths": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.75}}
  - {model: M2, parameters: {weight: 0.75}}
parameters: {normalize: [true, false, true, false]}
""",
    "task arithmetic": """
merge_method: task_arithmetic
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: [{filter: mlp, value: [1, 0]}, {value: 0.5}]}}
parameters: {lambda: 0.8}
""",
    "task arithmetic normalized, base listed": """
merge_method: task_arithmetic
base_model: BASE
models:
  - model: BASE
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize: true, int8_mask: true}
""",
    "passthrough": """
merge_method: passthrough
models: [{model: M1}]
""",
    "passthrough scaled": """
merge_method: passthrough
models:
  - {model: M1, parameters: {scale: [{filter: o_proj, value: 0.0}, {value: 1.5}]}}
""",
    "slerp": """
slices:
  - sources:
      - {model: M1, layer_range: [0, 4]}
      - {model: M2, layer_range: [0, 4]}
merge_method: slerp
base_model: M1
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
""",
    "slerp, slice parameters": """
slices:
  - sources:
      - {model: M1, layer_range: [0, 4]}
      - {model: M2, layer_range: [0, 4]}
    parameters: {t: [{filter: mlp, value: [0.1, 0.9]}]}
merge_method: slerp
base_model: M1
parameters: {t: 0.25}
""",
    "nuslerp": """
merge_method: nuslerp
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: [0.2, 0.9]}}
""",
    "nuslerp of task vectors, by row": """
merge_method: nuslerp
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {nuslerp_flatten: false}
""",
    "nuslerp of task vectors, by column": """
merge_method: nuslerp
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}
""",
    "multislerp": """
merge_method: multislerp
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
""",
    "multislerp of task vectors": """
merge_method: multislerp
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize_weights: false}
""",
    "karcher": """
merge_method: karcher
models: [{model: M1}, {model: M2}]
parameters: {max_iter: 20, tol: 1e-6}
""",
    "karcher with a base beside": """
merge_method: karcher
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "ties": """
merge_method: ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5, density: 0.6}}
  - model: M2
    parameters: {weight: [0.2, 0.9], density: [{filter: mlp, value: 0.3}, {value: 0.7}]}
parameters: {lambda: 1.1}
""",
    "ties, added": """
merge_method: ties
base_model: BASE
models:
  - model: BASE
  - {model: M1, parameters: {weight: 0.5, density: 0.6}}
  - {model: M2, parameters: {weight: -0.3}}
parameters: {normalize: false, rescale: true, int8_mask: true}
""",
    "breadcrumbs": """
merge_method: breadcrumbs
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5, density: 0.8, gamma: 0.05}}
  - {model: M2, parameters: {weight: 0.9, density: 0.5, gamma: 0.3}}
""",
    "breadcrumbs ties": """
merge_method: breadcrumbs_ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5, density: 0.8}}
  - {model: M2, parameters: {weight: 0.9, density: 0.5, gamma: 0.6}}
parameters: {normalize: true}
""",
    "dare at full density": """
merge_method: dare_ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5}}
  - {model: M2, parameters: {weight: 0.9}}
""",
    "della at full density": """
merge_method: della_linear
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize: true, epsilon: 0.05}
""",
    "sce": """
merge_method: sce
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {select_topk: 0.3}
""",
    "sce of everything": """
merge_method: sce
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "model stock": """
merge_method: model_stock
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "model stock, filter-wise": """
merge_method: model_stock
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {filter_wise: true}
""",
    "nearswap": """
merge_method: nearswap
base_model: BASE
models: [{model: M1}]
parameters: {t: 0.01}
""",
    "arcee fusion": """
merge_method: arcee_fusion
base_model: BASE
models: [{model: M1}]
""",
    "ram": """
merge_method: ram
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {epsilon: 0.01}
""",
    "ramplus": """
merge_method: ramplus_tl
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {epsilon: 0.02, r: 0.4, alpha: 0.5}
""",
}
DTYPES = {
    "as stored": "",
    "dtype float32": "dtype: float32",
    "out bfloat16": "dtype: float32\nout_dtype: bfloat16",
    "torch. prefix": "dtype: torch.float16",
}


def both(family: Path, tmp_path: Path, text: str, stored: str) -> tuple[Path, Path]:
    for name, folder in (("M1", "m1"), ("M2", "m2"), ("BASE", "base")):
        text = text.replace(name, f"{family}/{folder}-{stored}")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(text)
    program = "import sys; from mergekit.scripts.run_yaml import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", program, recipe, tmp_path / "theirs", "--quiet"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )
    mdm_kit.merge(recipe, tmp_path / "ours")
    return tmp_path / "ours", tmp_path / "theirs"


def compare(ours: Path, theirs: Path) -> None:
    got, want = read_model(ours), read_model(theirs)
    assert set(got) == set(want)
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype, name
        error = torch.linalg.vector_norm(got[name].double() - tensor.double())
        size = torch.linalg.vector_norm(tensor.double())
        step = torch.finfo(tensor.dtype).eps if tensor.dtype != torch.float32 else 2e-6
        assert error <= step * size, (name, float(error / size))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_parameters_reach_every_tensor_as_in_mergekit(
    family: Path, tmp_path: Path, recipe: str
) -> None:
    compare(*both(family, tmp_path, recipe, "float32"))


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("recipe", ["linear", "task arithmetic"])
def test_output_dtypes_are_those_of_mergekit(
    family: Path, tmp_path: Path, recipe: str, dtypes: str
) -> None:
    ours, theirs = both(family, tmp_path, f"{RECIPES[recipe]}\n{dtypes}\n", "bfloat16")
    compare(ours, theirs)
    config = json.loads((ours / "config.json").read_text())
    (dtype,) = {str(t.dtype).removeprefix("torch.") for t in read_model(ours).values()}
    assert config["torch_dtype"] == dtype
