"""A family whose tensors hold linear maps of every kind, cut into them by plain slicing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from families import tensors, write_model
from torch import Tensor

Views = Callable[[Tensor], Sequence[Tensor]]

LAYER = "model.layers.{}.self_attn.{}_proj.weight"
MLP = "model.layers.{}.mlp.{}"
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (30, 16),
    **{LAYER.format(i, "qkv"): (48, 16) for i in range(3)},
    **{LAYER.format(i, "o"): (16, 16) for i in range(3)},
    MLP.format(0, "gate_up_proj.weight"): (80, 16),
    MLP.format(0, "down_proj.weight"): (16, 40),
    MLP.format(1, "experts.gate_up_proj"): (2, 12, 16),
    MLP.format(1, "experts.down_proj"): (2, 16, 6),
    MLP.format(2, "up_proj.weight"): (60, 16),
    MLP.format(2, "down_proj.weight"): (16, 60),
    "model.layers.1.input_layernorm.weight": (16,),
    "model.layers.2.self_attn.o_proj.bias": (16,),
    "side.h.0.attn.c_attn.weight": (16, 48),
    "side.h.0.attn.c_proj.weight": (16, 16),
    "side.conv.weight": (6, 4, 3, 3),
    "side.scale": (),
    "side.empty": (0, 4),
    "lm_head.weight": (30, 16),
}
CONFIG = {
    "model_type": "phi3",
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
LOW_RANK = LAYER.format(2, "o")
"""Whose changes have rank two."""
UNTOUCHED = MLP.format(2, "down_proj.weight")
"""That nobody changes."""
LATE = LAYER.format(0, "o")
"""That the first model does not change."""

DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def whole(x: Tensor) -> list[Tensor]:
    return [x]


def kernel(x: Tensor) -> list[Tensor]:
    """A convolution as one map."""
    return [x.view(x.shape[0], -1)]


Maps = Mapping[str, Views]

MAPS: Maps = {
    **{LAYER.format(i, "qkv"): lambda x: [x[:16], x[16:32], x[32:]] for i in range(3)},
    **{LAYER.format(i, "o"): whole for i in range(3)},
    MLP.format(0, "gate_up_proj.weight"): lambda x: [x[:40], x[40:]],
    MLP.format(0, "down_proj.weight"): whole,
    MLP.format(1, "experts.gate_up_proj"): lambda x: [x[0, :6], x[0, 6:], x[1, :6], x[1, 6:]],
    MLP.format(1, "experts.down_proj"): lambda x: [x[0], x[1]],
    MLP.format(2, "up_proj.weight"): whole,
    MLP.format(2, "down_proj.weight"): whole,
    "side.h.0.attn.c_attn.weight": lambda x: [x.T[:16], x.T[16:32], x.T[32:]],
    "side.h.0.attn.c_proj.weight": lambda x: [x.T],
}
"""What is projected of a model whose head is tied."""
UNTIED: Maps = {**MAPS, "lm_head.weight": whole}


def place(name: str) -> float:
    """How deep a tensor stands: 0, 0.5 and 1 in the model's three layers, 1 in a stack of one."""
    if name.startswith("side.h."):
        return 1.0
    return int(name.split(".")[2]) / 2 if name.startswith("model.layers.") else 0.0


def make(kind: str, n: int, size: float, *, tied: bool) -> list[dict[str, Tensor]]:
    """Return the base and n fine-tunes that share a part of their changes.

    `kind` is a dtype, or `mixed`: another one for each tensor.
    """
    turns = list(DTYPES.values())
    dtypes = {x: DTYPES.get(kind, turns[i % 4]) for i, x in enumerate(SHAPES)}
    base = tensors({x: (shape, dtypes[x]) for x, shape in SHAPES.items()}, 3)
    generator = torch.Generator().manual_seed(4)
    common = {x: torch.randn(t.shape, generator=generator).double() for x, t in base.items()}
    models = [base]
    for i in range(n):
        model = {}
        for x, t in base.items():
            d = 0.5 * common[x] + torch.randn(t.shape, generator=generator).double()
            if x == LOW_RANK:
                a, b = torch.randn(2, 16, 2, generator=generator, dtype=torch.float64)
                d = a @ b.T
            if x == UNTOUCHED or (x == LATE and i == 0):
                d = torch.zeros_like(d)
            model[x] = (t.double() + size * d).to(t.dtype)
        models.append(model)
    for model in models if tied else ():
        model["lm_head.weight"] = model["model.embed_tokens.weight"].clone()
    return models


def write(
    root: Path, kind: str = "F32", n: int = 3, size: float = 0.05, *, tied: bool = True
) -> list[dict[str, Tensor]]:
    """Write `base`, `m1`, `m2`, ...; return their tensors, the base's first."""
    models = make(kind, n, size, tied=tied)
    for i, model in enumerate(models):
        config = {**CONFIG, "tie_word_embeddings": tied}
        write_model(root / (f"m{i}" if i else "base"), model, config=config)
    return models
