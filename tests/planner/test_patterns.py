"""What names say about layers."""

from __future__ import annotations

import pytest

from mdm_kit.planner.patterns import (
    depths,
    is_before_layers,
    is_embedding,
    is_head,
    layer_position,
)


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
        ("transformer.blocks.6.attn.Wqkv.weight", "transformer.blocks.", 6),
        ("transformer.encoder.layers.8.mlp.dense_h_to_4h.weight", "transformer.encoder.layers.", 8),
        ("vit.encoder.layer.2.attention.output.dense.bias", "vit.encoder.layer.", 2),
        ("model.decoder.layers.4.encoder_attn.k_proj.weight", "model.decoder.layers.", 4),
        ("vision_model.encoder.layers.3.mlp.fc1.weight", "vision_model.encoder.layers.", 3),
        ("visual.blocks.30.attn.qkv.weight", "visual.blocks.", 30),
        ("rwkv.blocks.1.ln1.weight", "rwkv.blocks.", 1),
        ("encoder.layers.0.blocks.1.norm1.weight", "encoder.layers.", 0),
    ],
)
def test_layers_of_known_families(name: str, stack: str, index: int) -> None:
    position = layer_position(name)
    assert position is not None
    assert (position.stack, position.index) == (stack, index)


@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "classifier.0.weight",
     "layers.weight", "mylayers.3.weight", "", "visual.merger.mlp.0.weight",
     "model.visual.deepstack_merger_list.0.norm.weight"],
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


@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "bert.embeddings.word_embeddings.weight",
     "transformer.wte.weight", "shared.weight", "backbone.embeddings.weight",
     "gpt_neox.embed_in.weight",
     "text_model.embeddings.token_embedding.weight", "language_model.model.embed_tokens.weight",
     "transformer.embedding.word_embeddings.weight", "model.tok_embeddings.weight"],
)  # fmt: skip
def test_embeddings(name: str) -> None:
    assert is_embedding(name)
    assert not is_head(name)


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.mlp.up_proj.weight", "vision_model.embeddings.patch_embedding.weight",
     "vision_model.embeddings.position_embedding.weight", "vision_model.embeddings.class_embedding",
     "bert.embeddings.position_embeddings.weight", "model.embeddings.norm.weight",
     "model.layers.0.engram.embedding.weight"],
)  # fmt: skip
def test_no_embeddings_of_tokens(name: str) -> None:
    assert not is_embedding(name)


@pytest.mark.parametrize(
    "name",
    ["lm_head.weight", "embed_out.weight", "language_model.lm_head.weight", "output.weight",
     "cls.predictions.decoder.weight", "lm_head.decoder.weight", "vocab_projector.weight",
     "transformer.output_layer.weight", "proj_out.weight"],
)  # fmt: skip
def test_heads(name: str) -> None:
    assert is_head(name)
    assert not is_embedding(name)


@pytest.mark.parametrize(
    "name",
    ["model.lm_head_norm.weight", "bert.encoder.layer.0.output.weight", "lm_head.bias",
     "encoder.layers.1.decoder.weight", "model.layers.2.proj_out.weight", "classifier.weight",
     "visual_projection.weight"],
)  # fmt: skip
def test_no_heads(name: str) -> None:
    assert not is_head(name)


BEFORE = [
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "transformer.wpe.weight",
    "transformer.word_embeddings_layernorm.bias",
    "bert.embeddings.LayerNorm.weight",
    "bert.embeddings.token_type_embeddings.weight",
    "bert.embeddings.position_ids",
    "model.embeddings.norm.weight",
    "vit.embeddings.cls_token",
    "vit.embeddings.patch_embeddings.projection.weight",
    "vision_model.embeddings.class_embedding",
    "vision_model.pre_layrnorm.weight",
    "vision_model.positional_embedding_vlm",
    "vision_model.layernorm_pre.bias",
    "visual.patch_embed.proj.weight",
    "visual.conv1.weight",
    "visual.ln_pre.weight",
    "visual.positional_embedding",
    "vision_tower.patch_conv.weight",
    "multi_modal_projector.linear_1.weight",
    "multi_modal_projector.mm_soft_emb_norm.weight",
    "visual.merger.ln_q.weight",
    "model.mm_projector.0.weight",
    "resampler.query_tokens",
    "model.encoder.conv2.bias",
    "model.encoder.embed_positions.weight",
    "model.decoder.layernorm_embedding.weight",
    "model.decoder.project_in.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "shared.weight",
    "gpt_neox.embed_in.weight",
    "transformer.rotary_pos_emb.inv_freq",
    "electra.embeddings_project.weight",
    "wav2vec2.feature_projection.projection.weight",
    "backbone.embeddings.weight",
]
AFTER = [
    "model.norm.weight",
    "lm_head.weight",
    "lm_head.bias",
    "embed_out.weight",
    "transformer.ln_f.bias",
    "gpt_neox.final_layer_norm.weight",
    "bert.pooler.dense.weight",
    "cls.predictions.transform.dense.weight",
    "cls.predictions.decoder.bias",
    "lm_head.dense.weight",
    "lm_head.layer_norm.weight",
    "vocab_projector.bias",
    "vocab_layer_norm.weight",
    "classifier.out_proj.weight",
    "score.weight",
    "vit.layernorm.weight",
    "vision_model.post_layernorm.weight",
    "vision_tower.head.probe",
    "visual_projection.weight",
    "text_projection.weight",
    "logit_scale",
    "model.decoder.project_out.weight",
    "encoder.final_layer_norm.weight",
    "model.encoder.layer_norm.bias",
    "backbone.norm_f.weight",
    "transformer.output_layer.weight",
    "model.embedding_norm.weight",
    "visual.ln_post.weight",
    "head.dense.weight",
    "lm_head.linear.bias",
    "transformer.norm_f.weight",
    "vision_model.vision_adapter.mlp.fc1.weight",
]


@pytest.mark.parametrize("name", BEFORE)
def test_what_comes_before_the_layers(name: str) -> None:
    assert is_before_layers(name)
    assert layer_position(name) is None


@pytest.mark.parametrize("name", AFTER)
def test_what_comes_after_the_layers(name: str) -> None:
    assert not is_before_layers(name)
    assert layer_position(name) is None


@pytest.mark.parametrize(
    "name", ["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
             "model.layers.0.embed.weight", "h.1.wte.weight"],
)  # fmt: skip
def test_what_is_inside_is_neither(name: str) -> None:
    assert not is_before_layers(name)
