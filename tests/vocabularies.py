"""Tiny language models with tokenizers that were trained here and share some of their tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from families import random_tensor, write_model
from llamas import Sizes, config, llama
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

TEXTS = ["the quick brown fox jumps over the lazy dog " * 4, "pack my box with five dozen jugs"]
SIZES = Sizes(layers=2, hidden=8, inner=12, vocabulary=0)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@cache
def trained(size: int = 300) -> str:
    """A byte-level BPE tokenizer with `<s>`, `</s>` and `<pad>`, as its JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer.to_str()


def tokenizer_with(special: Sequence[str] = (), plain: Sequence[str] = ()) -> Tokenizer:
    tokenizer = Tokenizer.from_str(trained())
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in plain])
    return tokenizer


def side_files(tokenizer: Tokenizer, **settings: object) -> dict[str, bytes]:
    """The files transformers would save for a tokenizer."""
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        **settings,
    }
    generation = {"bos_token_id": 0, "eos_token_id": [1], "pad_token_id": 2}
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(about).encode(),
        "generation_config.json": json.dumps(generation).encode(),
    }


def tensors(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A small Llama whose vocabulary tensors have a value of their own in every row."""
    made = llama(Sizes(SIZES.layers, SIZES.hidden, SIZES.inner, rows), dtype)
    generator = torch.Generator().manual_seed(seed)
    return {n: random_tensor(tuple(t.shape), dtype, generator) for n, t in made.items()}


def write(
    folder: Path,
    tokenizer: Tokenizer | None,
    rows: int | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    files: Mapping[str, bytes] | None = None,
    model: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a model of `rows` rows, by default one for each token of its tokenizer."""
    n = rows if rows is not None else len(tokenizer.get_vocab()) if tokenizer else 0
    own = {} if tokenizer is None else side_files(tokenizer)
    about = config(Sizes(SIZES.layers, SIZES.hidden, SIZES.inner, n), dtype)
    about |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return write_model(
        folder,
        model or tensors(n, seed, dtype),
        config=about,
        side_files=own | dict(files or {}),
    )
