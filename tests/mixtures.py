"""A small base, two fine-tunes and a tokenizer, to become a mixture of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ["the", "a", "cat", "sat", "on", "mat", "one", "two", "three", "plus", "minus", "is"]
WORDS += ["equals", "def", "return", "print", "x", "y"]
SIZES = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def write_dense(root: Path, kind: str, **more: Any) -> Path:
    """Write `base`, `words` and `sums` of a family under `root`; return it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = SIZES | ({"head_dim": 16} if kind == "qwen3" else {}) | more
    config = AutoConfig.for_model(kind, bos_token_id=1, eos_token_id=2, **settings)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config)
    for seed, name in enumerate(("base", "words", "sums")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        model.load_state_dict(base.state_dict())
        if seed:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
        model.save_pretrained(root / name)
        write_tokenizer(root / name)
    return root


def recipe(root: Path, more: str = "", mode: str = "hidden") -> str:
    return f"""
base_model: {root}/base
gate_mode: {mode}
dtype: float32
{more}
experts:
  - source_model: {root}/words
    positive_prompts: [the cat sat on the mat, a cat is a cat]
    negative_prompts: [print x]
  - source_model: {root}/sums
    positive_prompts: [one plus two equals three]
"""
