"""Tiny random models of many families, as transformers builds and saves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from safetensors import safe_open

Shapes = Mapping[str, tuple[int, ...]]

_TEXT: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}
_MOE = {**_GROUPED, "num_experts_per_tok": 2, "head_dim": 4}
_EXPERTS = {"num_experts": 3, "moe_intermediate_size": 12}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LLAMA = {"model_type": "llama", **_GROUPED, **_IDS}
_VISION: dict[str, Any] = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 8,
    "patch_size": 4,
}
_T5 = {"vocab_size": 61, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
_GPT2 = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, **_IDS}
_FALCON = {**_TEXT, "ffn_hidden_size": 24, **_IDS}
_WHISPER = {
    "vocab_size": 61,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 8,
    "max_source_positions": 16,
    "max_target_positions": 16,
    **_IDS,
    "decoder_start_token_id": 1,
}
_DEEPSEEK = {
    **_MOE,
    **_IDS,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 12,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 4,
    "first_k_dense_replace": 1,
}
_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]}
_QWEN2_VL = {
    "text_config": {
        **_GROUPED,
        "model_type": "qwen2_vl_text",
        "rope_parameters": _MROPE,
        **_IDS,
    },
    "vision_config": {
        "depth": 2,
        "embed_dim": 12,
        "hidden_size": 16,
        "num_heads": 3,
        "patch_size": 4,
        "mlp_ratio": 2,
    },
    "image_token_id": 60,
}
_LLAVA = {
    "text_config": _LLAMA,
    "vision_config": {"model_type": "clip_vision_model", **_VISION},
    "image_token_index": 60,
}
_GEMMA3 = {
    "text_config": {**_GROUPED, "model_type": "gemma3_text", "head_dim": 4, **_IDS},
    "vision_config": {"model_type": "siglip_vision_model", **_VISION},
    "mm_tokens_per_image": 4,
    "image_token_index": 60,
}
_LLAMA4 = {**_MOE, "num_local_experts": 3, "intermediate_size_mlp": 20, **_IDS}
_GPT_OSS = {
    **_MOE,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    "num_local_experts": 3,
    **_IDS,
}
_MODERNBERT = {**_TEXT, **_IDS, "cls_token_id": 1, "sep_token_id": 2}
_CLIP = {
    "text_config": {**_TEXT, "projection_dim": 10, **_IDS},
    "vision_config": {**_VISION, "projection_dim": 10},
    "projection_dim": 10,
}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {**_GROUPED, **_IDS}),
    "llama tied": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {**_GROUPED, **_IDS, "tie_word_embeddings": True},
    ),
    "llama classifier": ("LlamaConfig", "LlamaForSequenceClassification", {**_GROUPED, **_IDS}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**_GROUPED, **_IDS}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {**_GROUPED, **_IDS}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        "Qwen2MoeForCausalLM",
        {**_MOE, **_EXPERTS, **_IDS, "shared_expert_intermediate_size": 20},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**_MOE, **_EXPERTS, **_IDS}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**_MOE, "num_local_experts": 3, **_IDS}),
    "granitemoe": (
        "GraniteMoeConfig",
        "GraniteMoeForCausalLM",
        {**_GROUPED, "num_local_experts": 3, **_IDS},
    ),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", _GPT_OSS),
    "gpt_oss square": ("GptOssConfig", "GptOssForCausalLM", {**_GPT_OSS, "intermediate_size": 16}),
    "llama4": ("Llama4TextConfig", "Llama4ForCausalLM", _LLAMA4),
    "llama4 square": ("Llama4TextConfig", "Llama4ForCausalLM", {**_LLAMA4, "intermediate_size": 8}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**_GROUPED, **_IDS}),
    "glm": ("GlmConfig", "GlmForCausalLM", {**_GROUPED, "head_dim": 4, **_IDS}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT2),
    "gpt2 across": ("GPT2Config", "GPT2LMHeadModel", {**_GPT2, "add_cross_attention": True}),
    "gpt_bigcode": ("GPTBigCodeConfig", "GPTBigCodeForCausalLM", _GPT2),
    "gpt_bigcode by head": (
        "GPTBigCodeConfig",
        "GPTBigCodeForCausalLM",
        {**_GPT2, "multi_query": False},
    ),
    "gpt_neo": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            **{k: v for k, v in _TEXT.items() if "num" not in k},
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            **_IDS,
        },
    ),
    "codegen": ("CodeGenConfig", "CodeGenForCausalLM", {**_GPT2, "rotary_dim": 4}),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**_TEXT, **_IDS}),
    "bloom": ("BloomConfig", "BloomForCausalLM", {**_TEXT, "n_layer": 2, "n_head": 4, **_IDS}),
    "persimmon": ("PersimmonConfig", "PersimmonForCausalLM", {**_TEXT, **_IDS}),
    "falcon": ("FalconConfig", "FalconForCausalLM", {**_FALCON, "multi_query": False}),
    "falcon multi-query": ("FalconConfig", "FalconForCausalLM", {**_FALCON, "multi_query": True}),
    "falcon grouped": (
        "FalconConfig",
        "FalconForCausalLM",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "mpt": (
        "MptConfig",
        "MptForCausalLM",
        {"vocab_size": 61, "d_model": 16, "n_heads": 4, "n_layers": 2, **_IDS},
    ),
    "mamba": (
        "MambaConfig",
        "MambaForCausalLM",
        {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    ),
    "mamba2": (
        "Mamba2Config",
        "Mamba2ForCausalLM",
        {
            "vocab_size": 61,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "state_size": 4,
            "num_heads": 4,
            "head_dim": 8,
            "n_groups": 2,
        },
    ),
    "bert": ("BertConfig", "BertForMaskedLM", _TEXT),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification", _TEXT),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM", _MODERNBERT),
    "vit": ("ViTConfig", "ViTForImageClassification", _VISION),
    "clip": ("CLIPConfig", "CLIPModel", _CLIP),
    "whisper": ("WhisperConfig", "WhisperForConditionalGeneration", _WHISPER),
    "t5": ("T5Config", "T5ForConditionalGeneration", _T5),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**_GROUPED, "head_dim": 4, **_IDS}),
    "gemma3": ("Gemma3Config", "Gemma3ForConditionalGeneration", _GEMMA3),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM", _DEEPSEEK),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {**_TEXT, "ffn_dim": 24, "word_embed_proj_dim": 8, **_IDS},
    ),
    "llava": ("LlavaConfig", "LlavaForConditionalGeneration", _LLAVA),
    "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration", _QWEN2_VL),
}
"""By a name of ours: the config's class, the model's class, what the config is made from."""

MORE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gemma": ("GemmaConfig", "GemmaForCausalLM", {**_GROUPED, "head_dim": 4, **_IDS}),
    "gemma3 text": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_GROUPED, "head_dim": 4, **_IDS}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_GROUPED, "head_dim": 4, **_IDS}),
    "phi": ("PhiConfig", "PhiForCausalLM", {**_TEXT, **_IDS}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", {**_GROUPED, **_IDS}),
    "stablelm": ("StableLmConfig", "StableLmForCausalLM", {**_GROUPED, **_IDS}),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", {**_GROUPED, **_IDS}),
    "cohere": ("CohereConfig", "CohereForCausalLM", {**_GROUPED, **_IDS}),
    "granite": ("GraniteConfig", "GraniteForCausalLM", {**_GROUPED, **_IDS}),
    "gptj": ("GPTJConfig", "GPTJForCausalLM", {**_GPT2, "rotary_dim": 4}),
    "deepseek_v2": (
        "DeepseekV2Config",
        "DeepseekV2ForCausalLM",
        {k: v for k, v in _DEEPSEEK.items() if k not in ("n_group", "topk_group")},
    ),
    "bart": (
        "BartConfig",
        "BartForConditionalGeneration",
        {
            **{k: v for k, v in _WHISPER.items() if "source" not in k and "mel" not in k},
            "max_position_embeddings": 32,
            "forced_eos_token_id": 2,
        },
    ),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertForMaskedLM",
        {"vocab_size": 61, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4},
    ),
    "electra": ("ElectraConfig", "ElectraForMaskedLM", {**_TEXT, "embedding_size": 8}),
    "deberta_v2": ("DebertaV2Config", "DebertaV2ForMaskedLM", _TEXT),
    "dinov2": ("Dinov2Config", "Dinov2ForImageClassification", {**_VISION, "mlp_ratio": 2}),
    "siglip": (
        "SiglipConfig",
        "SiglipModel",
        {"text_config": {**_TEXT, "projection_size": 12, **_IDS}, "vision_config": _VISION},
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {
                **_GROUPED,
                "model_type": "qwen2_5_vl_text",
                "rope_parameters": _MROPE,
                **_IDS,
            },
            "vision_config": {
                "depth": 2,
                "hidden_size": 12,
                "out_hidden_size": 16,
                "num_heads": 3,
                "intermediate_size": 20,
                "patch_size": 4,
                "fullatt_block_indexes": [1],
            },
            "image_token_id": 60,
        },
    ),
    "qwen3_vl": (
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": {**_GROUPED, "head_dim": 4, **_IDS},
            "vision_config": {
                "depth": 2,
                "hidden_size": 12,
                "out_hidden_size": 16,
                "num_heads": 3,
                "intermediate_size": 20,
                "patch_size": 4,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
            "image_token_id": 60,
        },
    ),
    "mistral3": (
        "Mistral3Config",
        "Mistral3ForConditionalGeneration",
        {
            "text_config": {**_GROUPED, "model_type": "mistral", "head_dim": 4, **_IDS},
            "vision_config": {"model_type": "pixtral", **_VISION, "head_dim": 4},
            "image_token_index": 60,
            "spatial_merge_size": 1,
        },
    ),
}
"""Those whose linear maps are told like others'."""


@dataclass(frozen=True)
class Saved:
    """What a saved model's folder says without its weights."""

    shapes: Shapes
    config: dict[str, Any]


@cache
def tiny(family: str) -> torch.nn.Module:
    """Return a family's tiny model, for reading."""
    return build(family)


def build(family: str) -> torch.nn.Module:
    """Return a family's tiny model, for whatever you like."""
    config_class, model_class, made_from = (MODELS | MORE)[family]
    torch.manual_seed(0)
    config = getattr(tf, config_class)(**json.loads(json.dumps(made_from)))
    model: torch.nn.Module = getattr(tf, model_class)(config)
    return model.eval()


def shapes_of(model: torch.nn.Module) -> Shapes:
    """Return the shapes of a model's parameters by every name they have in it."""
    return {n: tuple(p.shape) for n, p in model.named_parameters(remove_duplicate=False)}


def config_of(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(model.config.to_json_string())
    return found


def saved(model: Any, folder: Path) -> Saved:
    """Save a model and read its headers and config."""
    save: Callable[[Path], None] = model.save_pretrained
    save(folder)
    with safe_open(folder / "model.safetensors", "pt") as f:
        shapes = {name: tuple(f.get_slice(name).get_shape()) for name in sorted(f.keys())}
    return Saved(shapes, json.loads((folder / "config.json").read_text()))
