"""Families of fused linear maps: parts that follow one another, take turns, lie in one another."""

from __future__ import annotations

from pathlib import Path

import torch
from families import Spec, fine_tuned, tensors, write_model

BF16 = torch.bfloat16
MODELS = ("base", "m1", "m2")


def fused(features: int, hidden: int) -> Spec:
    """Return the shapes of a model: fused q, k and v, gate and up, packed experts."""
    return {
        "model.embed_tokens.weight": ((200, hidden), BF16),
        "transformer.h.0.attn.c_attn.weight": ((hidden, 3 * features), BF16),
        "model.layers.0.self_attn.qkv_proj.weight": ((3 * features, hidden), BF16),
        "model.layers.0.mlp.gate_up_proj.weight": ((2 * features, hidden), BF16),
        "model.layers.0.mlp.experts.gate_up_proj": ((3, hidden, features), BF16),
        "model.layers.0.mlp.experts.down_proj": ((3, features // 2, hidden), BF16),
        "model.layers.0.norm.weight": ((hidden,), BF16),
    }


def write_fused(root: Path, features: int, hidden: int) -> Path:
    base = tensors(fused(features, hidden), 0)
    config = {"hidden_size": hidden, "num_attention_heads": 2, "head_dim": features // 2}
    for i, name in enumerate(MODELS):
        model = fine_tuned(base, i, 0.05) if i else base
        write_model(root / name, model, config={"model_type": "x", **config})
    return root


def recipe(root: Path | str, method: str, parameters: str, keep: str) -> str:
    models = ", ".join(f"{{model: {root}/{name}}}" for name in MODELS[1:])
    return (
        f"merge_method: {method}\nbase_model: {root}/base\nmodels: [{models}]\n"
        f"parameters: {{{parameters}}}\nledger: {{keep: {keep}}}\n"
    )
