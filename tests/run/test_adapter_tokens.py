"""Adapters that bring tokens of their own: their tokenizer, and rows of the embedding, whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapters import PREFIX, factors, write_adapter
from families import read_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from vocabularies import EMBEDDING, HEAD, side_files, tensors, tokenizer_with, write

import mdm_kit
from mdm_kit.errors import FindingsError

TOOL = "<|tool|>"


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A base, and an adapter with a token more whose embedding and head are in it."""
    write(tmp_path / "base", tokenizer_with(["<|a|>"]))
    larger = tokenizer_with(["<|a|>", TOOL])
    rows = tensors(len(larger.get_vocab()), seed=5)
    own = factors({"model.layers.0.self_attn.q_proj": (8, 8)})
    own |= {EMBEDDING: rows[EMBEDDING], HEAD: rows[HEAD]}
    folder = write_adapter(tmp_path / "chat", own)
    for name, data in side_files(larger).items():
        (folder / name).write_bytes(data)
    return tmp_path


def recipe(family: Path, more: str = "") -> str:
    return (
        f"merge_method: task_arithmetic\nbase_model: {family}/base\n"
        f"models: [{{model: {family}/base+{family}/chat, parameters: {{weight: 1.0}}}}]\n{more}"
    )


def test_the_rows_of_new_tokens_come_with_their_tokenizer(family: Path) -> None:
    mdm_kit.merge(recipe(family, "tokenizer: {source: union}"), family / "out")
    tokenizer = AutoTokenizer.from_pretrained(family / "out")
    at = tokenizer.convert_tokens_to_ids(TOOL)
    assert tokenizer.decode([at]) == TOOL
    own = load_file(family / "chat/adapter_model.safetensors")[PREFIX + EMBEDDING]
    merged = read_model(family / "out")[EMBEDDING]
    assert merged.shape == own.shape
    torch.testing.assert_close(merged, own, rtol=0, atol=1e-6)


def test_without_a_tokenizer_block_the_plan_says_what_to_write(family: Path) -> None:
    with pytest.raises(FindingsError, match="tokenizer"):
        mdm_kit.merge(recipe(family), family / "out")
    assert not (family / "out").exists()


def test_an_adapter_that_brings_no_rows_has_its_models_tokenizer(family: Path) -> None:
    weights = family / "chat/adapter_model.safetensors"
    held = load_file(weights)
    save_file({n: t for n, t in held.items() if "lora" in n}, weights)
    mdm_kit.merge(recipe(family), family / "out")
    here, there = (family / f / "tokenizer.json" for f in ("out", "base"))
    assert here.read_bytes() == there.read_bytes()


def test_the_tokenizer_is_kept_with_the_adapter(family: Path) -> None:
    text = recipe(family, "tokenizer: {source: union}\nledger: {keep: deltas+base}")
    mdm_kit.merge(text, family / "out")
    (model,) = (s.name for s in mdm_kit.read_recipe(_written(family, text)).models)
    mdm_kit.extract(family / "out", model, family / "again")
    for path in (family / "chat").iterdir():
        if path.name != "generation_config.json":
            assert (family / "again" / path.name).read_bytes() == path.read_bytes()


def _written(family: Path, text: str) -> Path:
    path = family / "recipe.yml"
    path.write_text(text)
    return path
