"""A Llama-shaped family of any size, in bfloat16, written tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, INNER, VOCABULARY = 2048, 5632, 32_000
LAYER_ELEMENTS = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER + 2 * HIDDEN


def shapes(
    n_layers: int, hidden: int = HIDDEN, inner: int = INNER, vocabulary: int = VOCABULARY
) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(n_layers):
        at = f"model.layers.{i}"
        found |= {f"{at}.self_attn.{p}_proj.weight": (hidden, hidden) for p in "qkvo"}
        found |= {f"{at}.mlp.{p}_proj.weight": (inner, hidden) for p in ("gate", "up")}
        found[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
        found |= {f"{at}.{n}_layernorm.weight": (hidden,) for n in ("input", "post_attention")}
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def write_family(root: Path, n_elements: float, n_models: int) -> list[Path]:
    """Write `base` and `n_models` fine-tunes of about `n_elements` each; return the base first."""
    n_layers = max(1, round((n_elements - 2 * VOCABULARY * HIDDEN) / LAYER_ELEMENTS))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_hidden_layers": n_layers,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    folders = [root / name for name in ("base", *(f"m{i + 1}" for i in range(n_models)))]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
    base = _tensors(shapes(n_layers), 0, None)
    save_file(base, folders[0] / "model.safetensors", metadata={"format": "pt"})
    for seed, folder in enumerate(folders[1:], start=1):
        tuned = _tensors(shapes(n_layers), seed, base)
        save_file(tuned, folder / "model.safetensors", metadata={"format": "pt"})
    return folders


def _tensors(
    wanted: dict[str, tuple[int, ...]], seed: int, base: dict[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in wanted.items():
        noise = torch.randn(shape, generator=generator)
        start = base[name].float() if base else 0.0
        found[name] = (start + noise * (0.002 if base else 0.02)).bfloat16()
    return found
