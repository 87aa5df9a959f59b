"""Layers put together anew load in transformers, run and write, whatever the family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)

import mdm_kit

pytestmark = pytest.mark.real

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64}
DECODERS = {
    "llama": SMALL | {"num_hidden_layers": 4},
    "qwen2": SMALL | {"num_hidden_layers": 4, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3": SMALL | {"num_hidden_layers": 4},
    "gemma3_text": SMALL | {"num_hidden_layers": 4, "sliding_window": 8},
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 4, "n_head": 2, "n_positions": 64},
    "gpt_neox": SMALL | {"num_hidden_layers": 4},
    "mixtral": SMALL | {"num_hidden_layers": 4, "num_local_experts": 3},
}


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def strange_keys(loaded: dict[str, object]) -> set[str]:
    return {str(k) for part in ("missing_keys", "unexpected_keys") for k in loaded[part]}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", DECODERS)
def test_repeated_layers_load_and_write(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **DECODERS[kind]))
    folder = saved(model, tmp_path / "model")
    ranges = [(0, 3), (1, 4), (3, 4)]
    slices = "".join(
        f"  - sources: [{{model: {folder}, layer_range: [{a}, {b}]}}]\n" for a, b in ranges
    )
    mdm_kit.merge(f"merge_method: passthrough\nslices:\n{slices}", tmp_path / "out")
    made, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not strange_keys(told)
    assert made.config.num_hidden_layers == 7
    tokens = torch.arange(3, 11)[None]
    with torch.no_grad():
        logits = made(tokens).logits
    assert torch.isfinite(logits).all()
    written = made.generate(tokens, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert written.shape == (1, 12)
    # Layer by layer it is the model's own, run in that order.
    own = [i for a, b in ranges for i in range(a, b)]
    for target, source in enumerate(own):
        want = layers_of(model)[source].state_dict()
        got = layers_of(made)[target].state_dict()
        assert all(torch.equal(got[n], t) for n, t in want.items()), (target, source)


def layers_of(model: PreTrainedModel) -> torch.nn.ModuleList:
    inner = model.base_model
    return getattr(inner, "layers", None) or inner.h  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["t5", "whisper", "bart"])
def test_an_encoder_grows_and_its_decoder_stays(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"d_model": 32, "vocab_size": 64, "decoder_start_token_id": 1, "pad_token_id": 0}
    small |= {"bos_token_id": 1, "eos_token_id": 2}
    if kind == "t5":
        small |= {"d_kv": 16, "d_ff": 48, "num_heads": 2, "num_layers": 3, "num_decoder_layers": 3}
    else:
        sides = ("encoder", "decoder")
        small |= {f"{s}_layers": 3 for s in sides} | {f"{s}_attention_heads": 2 for s in sides}
        small |= {f"{s}_ffn_dim": 48 for s in sides}
    config = AutoConfig.for_model(kind, **small)
    maker = AutoModelForSeq2SeqLM
    if kind == "whisper":
        from transformers import AutoModelForSpeechSeq2Seq

        maker = AutoModelForSpeechSeq2Seq
    folder = saved(maker.from_config(config), tmp_path / "model")
    text = f"""
merge_method: passthrough
modules:
  encoder:
    slices:
      - sources: [{{model: {folder}, layer_range: [0, 2]}}]
      - sources: [{{model: {folder}, layer_range: [1, 3]}}]
"""
    mdm_kit.merge(text, tmp_path / "out")
    made, told = maker.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not strange_keys(told)
    sides = (made.get_encoder(), made.get_decoder())
    counts = [len(getattr(s, "layers", None) or s.block) for s in sides]
    assert counts == [4, 3]
