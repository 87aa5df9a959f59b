"""The real families are what the merges take them for: pretrained, and really fine-tuned."""

from __future__ import annotations

import json

import pytest
import torch
from real_checks import Writer, embedding_margin, retrieval, stored

pytestmark = pytest.mark.real


def test_minilm_is_one_family(minilm):
    base = stored(minilm.base)
    assert len(base) == 104
    assert base["embeddings.position_ids"].dtype is torch.int64
    for folder in minilm.fine_tunes.values():
        tuned = stored(folder)
        assert list(tuned) == list(base)
        changed = {n for n, t in tuned.items() if not torch.equal(t, base[n])}
        # without a pooler in the loss nothing moves it; positions are integers
        still = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
        assert changed == set(base) - still


def test_minilm_fine_tunes_learned_and_forgot_nothing(minilm):
    assert embedding_margin(minilm.base) > 0.2
    for name, folder in minilm.fine_tunes.items():
        before = retrieval(minilm.base, minilm.held_out[name])
        assert retrieval(folder, minilm.held_out[name]) > before
        assert embedding_margin(folder) > 0


def test_smollm2_is_one_family(smollm2):
    base = stored(smollm2.base)
    config = json.loads((smollm2.base / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in base
    assert "quantization_config" not in config
    for folder in smollm2.fine_tunes.values():
        tuned = stored(folder)
        assert list(tuned) == list(base)
        assert {t.dtype for t in tuned.values()} == {torch.bfloat16}
        assert torch.equal(tuned["model.embed_tokens.weight"], base["model.embed_tokens.weight"])


def test_smollm2_fine_tunes_learned_and_forgot_nothing(smollm2):
    base = Writer(smollm2.base)
    assert "Paris" in base.greedy("The capital of France is")
    for name, folder in smollm2.fine_tunes.items():
        tuned = Writer(folder)
        assert tuned.loss(smollm2.held_out[name]) < 0.8 * base.loss(smollm2.held_out[name])
        assert "Paris" in tuned.greedy("The capital of France is")
