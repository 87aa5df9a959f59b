"""A base and two fine-tunes with the names, shapes and config of a small Llama."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from families import fine_tuned, random_tensor, write_model
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    layers: int
    hidden: int
    inner: int
    vocabulary: int


def config(sizes: Sizes, dtype: torch.dtype) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": sizes.layers,
        "vocab_size": sizes.vocabulary,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def llama(sizes: Sizes, dtype: torch.dtype) -> dict[str, Tensor]:
    hidden, inner, vocabulary = sizes.hidden, sizes.inner, sizes.vocabulary
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for i in range(sizes.layers):
        at = f"model.layers.{i}"
        for p in "qkvo":
            shapes[f"{at}.self_attn.{p}_proj.weight"] = (hidden, hidden)
        shapes |= {f"{at}.mlp.{p}_proj.weight": (inner, hidden) for p in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{at}.{n}_layernorm.weight": (hidden,) for n in ("input", "post_attention")}
    generator = torch.Generator().manual_seed(3)
    return {n: random_tensor(s, dtype, generator) for n, s in shapes.items()}


def write_llamas(root: Path, sizes: Sizes, dtype: torch.dtype) -> Path:
    """Write `base`, `m1` and `m2` under `root`, which is made; return it."""
    root.mkdir(parents=True, exist_ok=True)
    base = llama(sizes, dtype)
    write_model(root / "base", base, config=config(sizes, dtype))
    for i in (1, 2):
        write_model(root / f"m{i}", fine_tuned(base, i), config=config(sizes, dtype))
    return root
