"""Extraction against dense references, and all that keeps it from happening."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from families import write_model
from safetensors.torch import load_file
from torch import Tensor

import mdm_kit
from mdm_kit.errors import (
    FindingsError,
    IntegrityError,
    NotFiniteError,
    OutputExists,
    SourceError,
    UsageError,
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "tie_word_embeddings": False,
}
PREFIX = "base_model.model."


def base_model() -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (120, 64),
        "model.layers.0.self_attn.q_proj.weight": (64, 64),
        "model.layers.0.mlp.up_proj.weight": (96, 64),
        "model.layers.0.input_layernorm.weight": (64,),
        "model.layers.1.self_attn.q_proj.weight": (64, 64),
        "model.layers.1.mlp.up_proj.weight": (96, 64),
        "model.layers.1.input_layernorm.weight": (64,),
        "lm_head.weight": (120, 64),
    }
    return {name: torch.randn(shape, generator=numbers) for name, shape in shapes.items()}


def tuned_model(base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything but the last layer's projection and the embedding is moved."""
    numbers = torch.Generator().manual_seed(1)
    same = ("model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight")
    return {
        name: t if name in same else t + 0.1 * torch.randn(t.shape, generator=numbers)
        for name, t in base.items()
    }


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    base = base_model()
    write_model(tmp_path / "base", base, config=CONFIG, n_shards=2)
    write_model(tmp_path / "tuned", tuned_model(base), config=CONFIG)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_pair_is_as_near_as_its_rank_allows(pair: Path, dtype: str) -> None:
    found = mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "lora", rank=12, dtype=dtype)
    factors = load_file(pair / "lora" / "adapter_model.safetensors")
    base, tuned = base_model(), tuned_model(base_model())
    assert {f.dtype for f in factors.values()} == {getattr(torch, dtype)}
    assert len(factors) == 2 * len(found.pairs) == 8  # what did not change is left out
    lost = 0.0
    for module in found.pairs:
        d = (tuned[module.tensor] - base[module.tensor]).double()
        down = factors[f"{PREFIX}{module.module}.lora_A.weight"].double()
        up = factors[f"{PREFIX}{module.module}.lora_B.weight"].double()
        assert (up.shape, down.shape) == ((len(d), 12), (12, d.shape[1]))
        best = float(np.linalg.norm(np.linalg.svd(d.numpy(), compute_uv=False)[12:]))
        error = float((d - up @ down).norm())
        assert error <= 1.02 * best
        assert module.relative_error == pytest.approx(error / float(d.norm()), rel=1e-6)
        lost += error**2
    left = [tuned[o.tensor].double() - base[o.tensor].double() for o in found.others]
    whole = sum(float((tuned[n].double() - base[n].double()).square().sum()) for n in base)
    share = 1.0 - (lost + sum(float(d.square().sum()) for d in left)) / whole
    assert found.kept == pytest.approx(share, rel=1e-6)
    assert found.share(found.others) + found.share(found.pairs) == pytest.approx(1.0)
    json.dumps(found.to_json(), allow_nan=False)


def test_what_is_no_linear_weight_is_named(pair: Path) -> None:
    found = mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "lora", rank=4)
    norms = [f"model.layers.{i}.input_layernorm.weight" for i in range(2)]
    assert {(o.tensor, o.why, o.saved) for o in found.others} == {
        (name, "a vector", False) for name in norms
    }
    config = json.loads((pair / "lora" / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    assert config["task_type"] == "CAUSAL_LM"
    assert config["base_model_name_or_path"] == str(pair / "base")
    card = (pair / "lora" / "README.md").read_text()
    assert "What tuned changed of base, as a LoRA of rank 4 on 4 modules." in card
    assert "LlamaForCausalLM.from_pretrained(BASE)" in card
    assert str(pair) not in card
    again = mdm_kit.extract_lora(
        pair / "tuned", pair / "base", pair / "whole", rank=4, save_modules=True
    )
    assert all(other.saved for other in again.others)
    saved = load_file(pair / "whole" / "adapter_model.safetensors")
    tuned = tuned_model(base_model())
    for name in norms:
        assert torch.equal(saved[PREFIX + name], tuned[name])


def test_the_same_bytes_whoever_works(pair: Path) -> None:
    for out, threads in (("one", 1), ("three", 3), ("again", 3)):
        mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / out, rank=12, threads=threads)
    assert files(pair / "one") == files(pair / "three") == files(pair / "again")
    mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "other", rank=12, seed=1)
    assert files(pair / "one") != files(pair / "other")


def test_energy_is_kept_and_the_rank_bounded(pair: Path) -> None:
    found = mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "lora", energy=0.6)
    assert all(p.kept >= 0.6 - 1e-6 for p in found.pairs)
    bounded = mdm_kit.extract_lora(
        pair / "tuned", pair / "base", pair / "low", energy=0.6, max_rank=3
    )
    assert {p.rank for p in bounded.pairs} == {3}


def test_a_rank_that_no_weight_has_is_cut(pair: Path) -> None:
    found = mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "lora", rank=100)
    assert {p.rank for p in found.pairs} == {64}
    assert found.clamped == 4
    assert all(p.relative_error < 1e-5 for p in found.pairs)


def test_one_model_twice_leaves_nothing(pair: Path) -> None:
    with pytest.raises(UsageError, match="nothing to extract: the model and the base are the same"):
        mdm_kit.extract_lora(pair / "base", pair / "base", pair / "lora")
    assert {path.name for path in pair.iterdir()} == {"base", "tuned"}


def test_only_norms_leave_nothing(tmp_path: Path) -> None:
    base = base_model()
    write_model(tmp_path / "base", base)
    name = "model.layers.0.input_layernorm.weight"
    write_model(tmp_path / "tuned", {**base, name: base[name] + 1})
    with pytest.raises(UsageError, match="none of the 1 tensors that changed"):
        mdm_kit.extract_lora(tmp_path / "tuned", tmp_path / "base", tmp_path / "lora")


def test_every_misfit_at_once_before_a_weight_is_read(tmp_path: Path) -> None:
    base = base_model()
    write_model(tmp_path / "base", base)
    other = {**base, "lm_head.weight": torch.full((120, 65), torch.nan)}
    other["more.weight"] = other.pop("model.layers.0.mlp.up_proj.weight")
    write_model(tmp_path / "tuned", other)
    with pytest.raises(FindingsError) as caught:
        mdm_kit.extract_lora(tmp_path / "tuned", tmp_path / "base", tmp_path / "lora")
    assert caught.value.exit_code == 3
    said = str(caught.value)
    assert re.search(r"lm_head.weight \[120, 64\] against \[120, 65\]", said)
    assert "lacks 1 of the 8 tensors" in said
    assert "1 tensor that base lacks: more.weight" in said.replace("tensors", "tensor")
    assert "on_mismatch" not in said


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.input_layernorm.weight"])
@pytest.mark.parametrize("which", ["model", "base"])
def test_a_nan_names_its_tensor(name: str, which: str, tmp_path: Path) -> None:
    base = base_model()
    tuned = tuned_model(base)
    spoilt = (tuned if which == "model" else base)[name]
    spoilt.view(-1)[7] = torch.nan
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "tuned", tuned)
    with pytest.raises(NotFiniteError, match=f"'{name}' of the {which} holds"):
        mdm_kit.extract_lora(tmp_path / "tuned", tmp_path / "base", tmp_path / "lora")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "tuned"}


def test_what_stands_at_the_output_stays(pair: Path) -> None:
    with pytest.raises(OutputExists):
        mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "tuned")
    (pair / "empty").mkdir()
    mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "empty", rank=2)
    assert set(files(pair / "empty")) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_options_that_exclude_each_other(pair: Path) -> None:
    for wrong in ({"rank": 4, "energy": 0.5}, {"max_rank": 4}, {"energy": 1.5}, {"dtype": "int8"}):
        with pytest.raises(UsageError):
            mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "lora", **wrong)  # type: ignore[arg-type]


def test_models_that_cannot_be_had(pair: Path) -> None:
    with pytest.raises(SourceError):
        mdm_kit.extract_lora(pair / "tund", pair / "base", pair / "lora")
    (pair / "base" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(IntegrityError):
        mdm_kit.extract_lora(pair / "tuned", pair / "base", pair / "lora")


def test_stored_in_other_dtypes(tmp_path: Path) -> None:
    """The difference is formed of the stored numbers, in float32."""
    base = {name: t.bfloat16() for name, t in base_model().items()}
    tuned = {name: t.double() + 0.25 for name, t in base.items()}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "tuned", tuned)
    found = mdm_kit.extract_lora(tmp_path / "tuned", tmp_path / "base", tmp_path / "lora")
    assert {p.rank for p in found.pairs} == {1}
    assert all(p.relative_error < 1e-6 for p in found.pairs)


def test_a_merge_takes_it_in(pair: Path) -> None:
    """BASE+ADAPTER is the fine-tune where the rank suffices, whatever the ranks of the modules."""
    tuned = base_model()
    numbers = torch.Generator().manual_seed(2)
    moved = [name for name in tuned if "layers" in name and tuned[name].dim() == 2]
    for rank, name in enumerate(moved, 1):
        m, n = tuned[name].shape
        left, right = (
            torch.randn(m, rank, generator=numbers),
            torch.randn(rank, n, generator=numbers),
        )
        tuned[name] += left @ right
    write_model(pair / "low", tuned, config=CONFIG)
    found = mdm_kit.extract_lora(pair / "low", pair / "base", pair / "lora", energy=1.0 - 1e-9)
    assert sorted(p.rank for p in found.pairs) == [1, 2, 3, 4]
    recipe = f"merge_method: passthrough\nmodels:\n  - model: {pair}/base+{pair}/lora\n"
    mdm_kit.merge(recipe, pair / "merged")
    again = mdm_kit.extract_lora(f"{pair}/base+{pair}/lora", pair / "base", pair / "again", rank=4)
    assert sorted(p.rank for p in again.pairs) == [1, 2, 3, 4]
    with pytest.raises(UsageError, match="merge that first"):
        mdm_kit.extract_lora(pair / "low", f"{pair}/base+{pair}/lora", pair / "more")
    merged = load_file(pair / "merged" / "model.safetensors")
    for name, want in tuned.items():
        assert torch.allclose(merged[name], want, atol=1e-5), name
