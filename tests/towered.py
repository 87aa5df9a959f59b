"""A text model, a vision-language model around it, and fine-tunes of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from families import Spec, fine_tuned, tensors, write_model
from torch import Tensor

Model = dict[str, Tensor]


def _layers(prefix: str, width: int, dtype: torch.dtype) -> Spec:
    shapes = {
        "self_attn.q_proj.weight": (width, width),
        "mlp.up_proj.weight": (12, width),
        "input_layernorm.weight": (width,),
    }
    return {f"{prefix}.{i}.{n}": (shape, dtype) for i in range(2) for n, shape in shapes.items()}


TEXT: Spec = {
    "model.embed_tokens.weight": ((21, 8), torch.float32),
    **_layers("model.layers", 8, torch.float32),
    "model.norm.weight": ((8,), torch.float32),
    "lm_head.weight": ((21, 8), torch.float32),
}
INSIDE = "language_model."
"""What stands before the names of the text model in the larger one."""
VISION: Spec = {
    "vision_tower.patch_embedding.weight": ((8, 3), torch.bfloat16),
    **_layers("vision_tower.encoder.layers", 8, torch.bfloat16),
    "vision_tower.position_ids": ((7,), torch.int64),
    "projector.linear.weight": ((8, 8), torch.float32),
}
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def wrapped(text: Mapping[str, Tensor], vision: Mapping[str, Tensor]) -> Model:
    return {**vision, **{INSIDE + name: t for name, t in text.items()}}


def config(*, tied: bool = False) -> dict[str, object]:
    return {"model_type": "llama", "hidden_size": 8, "tie_word_embeddings": tied}


def write_towers(root: Path, n: int = 2) -> dict[str, Model]:
    """Write `text0`, `vlm0` around it, and fine-tunes `text1`, `vlm1`, ... of both."""
    text, vision = tensors(TEXT, 1), tensors(VISION, 2)
    models = {"text0": text, "vlm0": wrapped(text, vision)}
    for i in range(1, n + 1):
        models[f"text{i}"] = fine_tuned(text, 10 + i, size=0.2)
        models[f"vlm{i}"] = fine_tuned(models["vlm0"], 20 + i, size=0.2)
    for name, model in models.items():
        side = {"preprocessor_config.json": b"{}"} if name.startswith("vlm") else {}
        write_model(root / name, model, config=config(), side_files=side)
    return models


def write_tied(root: Path, n: int = 2) -> dict[str, Model]:
    """Write `base` and fine-tunes: `open0`, `open1`, ... with a head, `tied0`, ... without."""
    text = tensors(TEXT, 1)
    text[HEAD] = text[EMBEDDING].clone()
    models = {"open0": text, "tied0": {n: t for n, t in text.items() if n != HEAD}}
    for i in range(1, n + 1):
        models[f"open{i}"] = fine_tuned(text, 10 + i, size=0.2)
        models[f"tied{i}"] = fine_tuned(models["tied0"], 20 + i, size=0.2)
    for name, model in models.items():
        write_model(root / name, model, config=config(tied=name.startswith("tied")))
    return models
