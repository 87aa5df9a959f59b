"""Models with adapters hold what PEFT's own merge gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import write_with_peft
from tiny_models import build

from mdm_kit.sources import open_source
from mdm_kit.sources.adapted import AdaptedSource
from mdm_kit.words import AdapterRef, ModelRef

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"]}),
    "rank stabilised": (
        "llama",
        {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": "all-linear"},
    ),
    "other ranks for some": (
        "llama",
        {
            "r": 2,
            "target_modules": ["q_proj", "k_proj", "up_proj"],
            "rank_pattern": {"layers.0.self_attn.q_proj": 5, "up_proj": 1},
            "alpha_pattern": {r"^model\.layers\.1\..*q_proj": 3, "k_proj": 12},
        },
    ),
    "whole modules": (
        "llama",
        {"r": 2, "target_modules": ["v_proj"], "modules_to_save": ["lm_head", "norm"]},
    ),
    "embeddings": ("llama", {"r": 2, "target_modules": ["embed_tokens", "o_proj"]}),
    "turned": ("gpt2", {"r": 2, "target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "biases": ("gpt2", {"r": 2, "target_modules": ["c_attn"], "bias": "lora_only"}),
    "all biases": ("gpt2", {"r": 2, "target_modules": ["c_fc"], "bias": "all"}),
    "a bias beside B": (
        "gpt2",
        {"r": 2, "lora_alpha": 6, "target_modules": ["c_attn", "c_fc"], "lora_bias": True},
    ),
    "turned embeddings": ("gpt2", {"r": 2, "target_modules": ["wpe", "c_attn"]}),
    "encoder": ("bert", {"r": 2, "target_modules": ["query", "dense"]}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_peft_merges(tmp_path: Path, kind: str) -> None:
    family, config = KINDS[kind]
    model = build(family)
    model.save_pretrained(tmp_path / "model")
    adapted = write_with_peft(model, tmp_path / "lora", **config)
    wanted = adapted.merge_and_unload().state_dict()
    ref = ModelRef(str(tmp_path / "model"), adapter=AdapterRef(str(tmp_path / "lora")))
    changed = 0
    with open_source(ref, "x") as source:
        assert isinstance(source, AdaptedSource)
        for name, info in source.headers().tensors.items():
            found = torch.frombuffer(bytearray(source.read(info)), dtype=torch.float32)
            known = next(w for n, w in wanted.items() if n == name or n.endswith("." + name))
            assert info.shape == tuple(known.shape)
            torch.testing.assert_close(found, known.reshape(-1), rtol=0, atol=2e-6)
            changed += info.name in source.targets.changed
        assert changed == len(source.targets.changed)
        assert changed
