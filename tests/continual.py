"""Families with every kind of linear map, and merges that grow: what their tests share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from families import Spec, fine_tuned, tensors, write_model
from torch import Tensor

import mdm_kit
from mdm_kit import Addition

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16

LLAMA: Spec = {
    "model.embed_tokens.weight": ((50, 24), F32),
    "model.layers.0.self_attn.q_proj.weight": ((24, 24), F32),
    "model.layers.0.self_attn.k_proj.weight": ((8, 24), F32),
    "model.layers.0.mlp.up_proj.weight": ((72, 24), F32),
    "model.layers.0.mlp.down_proj.weight": ((24, 72), F32),
    "model.layers.0.input_layernorm.weight": ((24,), F32),
    "model.layers.1.self_attn.q_proj.weight": ((24, 24), F32),
    "model.layers.1.mlp.up_proj.weight": ((72, 24), F32),
    "model.norm.weight": ((24,), F32),
    "model.ids": ((3,), torch.int64),
    "lm_head.weight": ((50, 24), F32),
}
"""Square, wide and tall maps, an untied head, tables, norms, a buffer."""

ODD_MAPS: Spec = {
    "transformer.wte.weight": ((40, 16), BF16),
    "transformer.h.0.attn.c_attn.weight": ((16, 48), BF16),
    "transformer.h.0.attn.c_attn.bias": ((48,), BF16),
    "transformer.h.0.attn.c_proj.weight": ((16, 16), F16),
    "transformer.h.0.mlp.c_fc.weight": ((16, 64), F32),
    "transformer.h.0.ln_1.weight": ((16,), F32),
    "transformer.h.0.empty": ((0, 3), F32),
    "transformer.h.0.scale": ((), F32),
    "transformer.h.0.mlp.experts.gate_up_proj": ((3, 20, 16), BF16),
    "transformer.h.0.mlp.experts.down_proj": ((3, 16, 10), BF16),
    "transformer.h.0.mlp.one.weight": ((1, 30), F32),
    "transformer.h.0.mlp.other.weight": ((30, 1), F32),
    "lm_head.weight": ((40, 16), BF16),
}
"""Conv1D, fused q, k, v and gate and up, packed experts, one row, one column, a tied head."""

CONFIGS: Mapping[str, Mapping[str, object]] = {
    "llama": {"model_type": "llama", "hidden_size": 24, "tie_word_embeddings": False},
    "odd": {"model_type": "gpt2", "n_embd": 16, "n_head": 4, "tie_word_embeddings": True},
}
SPECS: Mapping[str, Spec] = {"llama": LLAMA, "odd": ODD_MAPS}


def write_growing(
    root: Path, kind: str = "llama", n: int = 4, dtype: torch.dtype | None = None
) -> list[dict[str, Tensor]]:
    """Write `base` and `m1` ... `mn`; return their tensors, the base's first."""
    base = tensors(SPECS[kind], 0)
    if dtype is not None:
        base = {k: t.to(dtype) if t.dtype.is_floating_point else t for k, t in base.items()}
    if CONFIGS[kind]["tie_word_embeddings"]:
        base["lm_head.weight"] = base["transformer.wte.weight"].clone()
    models = [base, *(fine_tuned(base, 10 + i, 0.05) for i in range(n))]
    for model in models:
        if CONFIGS[kind]["tie_word_embeddings"]:
            model["lm_head.weight"] = model["transformer.wte.weight"].clone()
    for i, model in enumerate(models):
        write_model(root / ("base" if i == 0 else f"m{i}"), model, config=CONFIGS[kind])
    return models


def growing_recipe(
    root: Path,
    method: str,
    models: Sequence[int],
    parameters: str = "",
    *,
    keep: str = "state",
    more: str = "",
) -> str:
    """Return a recipe of some of the models, under their folders' names."""
    weights = {1: 1.0, 2: 0.7, 3: 1.3}
    own = {
        i: f", parameters: {{weight: {weights.get(i, 0.5)}}}" if method == "covmerge" else ""
        for i in models
    }
    lines = [f"  - {{model: {root}/m{i}{own[i]}}}" for i in models]
    return "\n".join(
        [
            f"merge_method: {method}",
            f"base_model: {root}/base",
            "models:",
            *lines,
            *([f"parameters: {{{parameters}}}"] if parameters else []),
            f"ledger: {{keep: {keep}}}",
            more,
        ]
    )


def addition(root: Path, i: int, method: str) -> Addition:
    """Return model i as it is added to a merge that began with fewer."""
    weight = {1: 1.0, 2: 0.7, 3: 1.3}.get(i, 0.5) if method == "covmerge" else None
    return Addition(str(root / f"m{i}"), weight=weight)


def away(root: Path, models: Sequence[int]) -> None:
    """Delete models nobody should need any more."""
    for i in models:
        shutil.rmtree(root / f"m{i}")


def shards(out: Path) -> dict[str, bytes]:
    """Return every file a loader reads, by name."""
    names = [p for p in out.iterdir() if p.suffix in (".safetensors", ".json")]
    return {
        p.name: p.read_bytes()
        for p in names
        if p.name not in ("mdm_manifest.json", ".mdm_local.json")
    }


def merge(text: str, out: Path, **options: object) -> dict[str, bytes]:
    """Merge and return what a loader reads."""
    mdm_kit.merge(text, out, **options)  # type: ignore[arg-type]
    return shards(out)
