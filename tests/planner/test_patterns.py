"""What names say about layers."""

from __future__ import annotations

import pytest

from mdm_kit.planner.patterns import depths, is_embedding, is_head, layer_position


@pytest.mark.parametrize(
    ("name", "stack", "index"),
    [
        ("model.layers.12.self_attn.q_proj.weight", "model.layers.", 12),
        ("transformer.h.0.attn.c_attn.weight", "transformer.h.", 0),
        ("h.3.mlp.c_fc.weight", "h.", 3),
        ("bert.encoder.layer.11.output.dense.bias", "bert.encoder.layer.", 11),
        ("encoder.block.2.layer.1.DenseReluDense.wi.weight", "encoder.block.", 2),
        ("gpt_neox.layers.5.attention.dense.weight", "gpt_neox.layers.", 5),
        ("backbone.layers.7.mixer.A_log", "backbone.layers.", 7),
        ("model.layers.3.mlp.experts.9.w1.weight", "model.layers.", 3),
        ("visual.transformer.resblocks.4.ln_1.weight", "visual.transformer.resblocks.", 4),
        ("language_model.model.layers.1.norm.weight", "language_model.model.layers.", 1),
    ],
)
def test_layers_of_known_families(name: str, stack: str, index: int) -> None:
    position = layer_position(name)
    assert position is not None
    assert (position.stack, position.index) == (stack, index)


@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "classifier.0.weight",
     "layers.weight", "mylayers.3.weight", ""],
)  # fmt: skip
def test_no_layer(name: str) -> None:
    assert layer_position(name) is None


def test_depth_runs_from_zero_to_one_in_each_stack() -> None:
    names = ["model.norm.weight", "dec.layers.0.w"]
    names += [f"enc.layers.{i}.w" for i in range(5)]
    assert depths(names) == {
        "model.norm.weight": 0.0,
        "dec.layers.0.w": 1.0,  # a stack of one layer takes the last value, as in mergekit
        "enc.layers.0.w": 0.0,
        "enc.layers.1.w": 0.25,
        "enc.layers.2.w": 0.5,
        "enc.layers.3.w": 0.75,
        "enc.layers.4.w": 1.0,
    }


def test_embeddings_and_heads() -> None:
    assert is_embedding("model.embed_tokens.weight")
    assert is_embedding("bert.embeddings.word_embeddings.weight")
    assert not is_embedding("model.layers.0.mlp.up_proj.weight")
    assert is_head("lm_head.weight")
    assert not is_head("model.lm_head_norm.weight")
