"""`config.json` says what was written, and is untouched where it does already."""

from __future__ import annotations

import json

import pytest

from mdm_kit.planner.config_truth import true_config

ODDLY_WRITTEN = b'{"model_type":"llama",\n\n "torch_dtype" : "bfloat16", "rope_theta": 1e4}'


def test_a_true_config_keeps_every_byte() -> None:
    assert true_config(ODDLY_WRITTEN, dtype="bfloat16", tied=None) == ODDLY_WRITTEN
    assert true_config(ODDLY_WRITTEN, dtype=None, tied=True) == ODDLY_WRITTEN


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_dtype_follows_the_weights_wherever_it_stands(key: str) -> None:
    raw = json.dumps({key: "bfloat16", "text_config": {key: "bfloat16", "n": 1}, "x": [1]}).encode()
    assert json.loads(true_config(raw, dtype="float32", tied=None)) == {
        key: "float32",
        "text_config": {key: "float32", "n": 1},
        "x": [1],
    }


def test_what_is_no_dtype_is_left_alone() -> None:
    raw = b'{"dtype": "auto", "vision_config": {"torch_dtype": null}}'
    assert true_config(raw, dtype="float32", tied=None) == raw


def test_a_false_claim_of_tied_weights_is_taken_back() -> None:
    raw = b'{"tie_word_embeddings": true, "text_config": {"tie_word_embeddings": true}}'
    assert json.loads(true_config(raw, dtype=None, tied=False)) == {
        "tie_word_embeddings": False,
        "text_config": {"tie_word_embeddings": False},
    }
    assert true_config(raw, dtype=None, tied=True) == raw


def test_silence_about_untied_weights_becomes_a_word() -> None:
    assert json.loads(true_config(b"{}", dtype=None, tied=False)) == {"tie_word_embeddings": False}
    stated = b'{"tie_word_embeddings": false}'
    assert true_config(stated, dtype=None, tied=False) == stated


def test_a_path_of_somebodys_machine_is_dropped() -> None:
    raw = b'{"_name_or_path": "/home/ann/base", "model_type": "llama"}'
    assert json.loads(true_config(raw, dtype=None, tied=None)) == {"model_type": "llama"}
