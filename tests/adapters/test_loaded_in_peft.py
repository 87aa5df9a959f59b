"""Adapters in peft, on transformers' model of the base: the fine-tune's logits come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as tf
from tiny_models import MODELS
from torch import Tensor, nn
from tuned import everything, low_rank, write_pair

import mdm_kit

# Of peft with this transformers; every other warning is an error, of keys missing or unknown too.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

IDS = torch.arange(12).reshape(2, 6)


def loaded(family: str, folder: Path) -> Any:
    base = getattr(tf, MODELS[family][1]).from_pretrained(folder / "base")
    return peft.PeftModel.from_pretrained(base, folder / "lora").eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found = model(input_ids=IDS).logits
    assert isinstance(found, Tensor)
    return found


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "lora" / "adapter_config.json").read_text())
    return config


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "gpt_neox", "llava", "qwen2_vl"])
def test_factors_of_enough_rank_are_the_fine_tune(family: str, tmp_path: Path) -> None:
    """Linear and Conv1D, fused maps, modules called otherwise than their tensors."""
    tuned = write_pair(family, tmp_path, low_rank(3))
    found = mdm_kit.extract_lora(tmp_path / "tuned", tmp_path / "base", tmp_path / "lora", rank=8)
    assert {pair.rank for pair in found.pairs} == {3}
    assert found.kept > 1 - 1e-9
    adapted = loaded(family, tmp_path)
    assert torch.allclose(logits(adapted), logits(tuned), atol=5e-6)
    with adapted.disable_adapter():
        assert not torch.allclose(logits(adapted), logits(tuned), atol=1e-2)


@pytest.mark.parametrize("family", ["llama", "llama tied", "gpt2", "bloom", "llama classifier"])
def test_whole_modules_are_the_rest_of_it(family: str, tmp_path: Path) -> None:
    """Norms, biases, positions, embeddings that are heads as well and such that are not."""
    tuned = write_pair(family, tmp_path, everything)
    found = mdm_kit.extract_lora(
        tmp_path / "tuned", tmp_path / "base", tmp_path / "lora", rank=64, save_modules=True
    )
    assert all(other.saved for other in found.others)
    assert found.kept > 1 - 1e-9
    adapted = loaded(family, tmp_path)
    assert torch.allclose(logits(adapted), logits(tuned), atol=5e-6)
    names = config_of(tmp_path)["modules_to_save"]
    assert ("lm_head" in names) == (family in ("llama tied", "gpt2", "bloom"))


@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")
def test_merged_into_the_base(tmp_path: Path) -> None:
    tuned = write_pair("gpt2", tmp_path, everything)
    mdm_kit.extract_lora(
        tmp_path / "tuned", tmp_path / "base", tmp_path / "lora", rank=64, save_modules=True
    )
    merged = dict(loaded("gpt2", tmp_path).merge_and_unload().named_parameters())
    for name, weight in tuned.named_parameters():
        assert torch.allclose(merged[name], weight, atol=1e-6), name


def test_ranks_by_energy(tmp_path: Path) -> None:
    """Each module has the rank its change asks for, and peft gives it that."""

    def step(name: str, weight: Tensor, numbers: torch.Generator) -> Tensor | None:
        ranks = {"q_proj": 1, "v_proj": 2, "1.mlp.up_proj": 5}
        rank = next((r for part, r in ranks.items() if f"{part}.weight" in name), None)
        return None if rank is None else low_rank(rank)(name, weight, numbers)

    tuned = write_pair("llama", tmp_path, step)
    found = mdm_kit.extract_lora(
        tmp_path / "tuned", tmp_path / "base", tmp_path / "lora", energy=1.0 - 1e-9
    )
    assert {pair.module.removeprefix("model.layers."): pair.rank for pair in found.pairs} == {
        "0.self_attn.q_proj": 1,
        "0.self_attn.v_proj": 2,
        "1.mlp.up_proj": 5,
        "1.self_attn.q_proj": 1,
        "1.self_attn.v_proj": 2,
    }
    assert config_of(tmp_path)["target_modules"] == [
        "model.layers.1.mlp.up_proj",
        "q_proj",
        "v_proj",
    ]
    adapted = loaded("llama", tmp_path)
    assert torch.allclose(logits(adapted), logits(tuned), atol=5e-6)
    for name, module in adapted.named_modules():
        if name.endswith("1.mlp.up_proj"):
            assert (module.r, module.scaling) == ({"default": 5}, {"default": 1.0})


def test_a_checkpoint_without_its_head(tmp_path: Path) -> None:
    """As the Hub's gpt2: the tensors of GPT2Model, the config of GPT2LMHeadModel."""
    tuned = write_pair("gpt2", tmp_path, low_rank(2))
    for which in ("base", "tuned"):
        model = tf.GPT2LMHeadModel.from_pretrained(tmp_path / which)
        config = (tmp_path / which / "config.json").read_bytes()
        model.transformer.save_pretrained(tmp_path / f"bare-{which}")
        (tmp_path / f"bare-{which}" / "config.json").write_bytes(config)
    mdm_kit.extract_lora(tmp_path / "bare-tuned", tmp_path / "bare-base", tmp_path / "lora", rank=2)
    assert torch.allclose(logits(loaded("gpt2", tmp_path)), logits(tuned), atol=5e-6)
