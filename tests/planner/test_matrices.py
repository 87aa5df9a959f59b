"""Which linear maps a tensor holds, against the modules of transformers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matrix_views import uses, view
from tiny_models import MODELS, build, config_of, saved, shapes_of, tiny
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mdm_kit.maths.matrix import Matrix
from mdm_kit.planner.matrices import Matrices, is_tied_copy


def linear_names(model: nn.Module) -> set[str]:
    """Names of the weights that modules multiply with, but for routers and tied heads."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found = set()
    for name, module in model.named_modules():
        if type(module).__name__.endswith("Router") or name.endswith("shared_expert_gate"):
            continue
        if isinstance(module, nn.Linear | Conv1D) and id(module.weight) not in tables:
            found.add(f"{name}.weight")
        for own, parameter in module.named_parameters(recurse=False):
            packed = type(module).__name__.endswith("Experts") and parameter.dim() == 3
            if packed or own in ("in_proj_weight", "mm_input_projection_weight"):
                found.add(f"{name}.{own}")
    return found


@pytest.mark.parametrize("family", MODELS)
def test_every_linear_map_once_and_nothing_else(family: str) -> None:
    model = tiny(family)
    shapes = shapes_of(model)
    matrices = Matrices(shapes, config_of(model), None)
    expected = linear_names(model)
    assert expected
    assert {name for name in shapes if matrices.of(name)} == expected
    for name in expected:
        assert (uses(matrices.of(name), math.prod(shapes[name])) == 1).all()


@pytest.mark.parametrize("family", MODELS)
def test_names_as_they_are_saved(family: str, tmp_path: Path) -> None:
    """Some models are saved under older names, some with their experts one by one."""
    model = tiny(family)
    shapes, files = shapes_of(model), saved(model, tmp_path)
    before = Matrices(shapes, config_of(model), None)
    after = Matrices(files.shapes, files.config, None)
    sizes = [math.prod(shapes[name]) for name in linear_names(model)]
    found = {name: after.of(name) for name in files.shapes}
    assert sum(math.prod(files.shapes[n]) for n, own in found.items() if own) == sum(sizes)
    for name, own in found.items():
        if own:
            assert (uses(own, math.prod(files.shapes[name])) == 1).all()
        if name in shapes:
            assert own == before.of(name)
    assert sum(map(len, found.values())) == sum(len(before.of(n)) for n in linear_names(model))


@pytest.mark.parametrize("family", ["gpt2", "gpt2 across"])
def test_conv1d_is_turned(family: str) -> None:
    model = tiny(family)
    shapes = shapes_of(model)
    matrices = Matrices(shapes, config_of(model), None)
    turned = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, Conv1D)}
    for name in linear_names(model) & turned:
        n_in, n_out = shapes[name]
        assert {m.inner for m in matrices.of(name)} == {((n_in, n_out),)}
        assert sum(m.n_out for m in matrices.of(name)) == n_out


ATTENTION = {
    "gpt2": ("transformer.h.0.attn.", "c_attn", "c_proj"),
    "gpt_bigcode": ("transformer.h.0.attn.", "c_attn", "c_proj"),
    "gpt_bigcode by head": ("transformer.h.0.attn.", "c_attn", "c_proj"),
    "codegen": ("transformer.h.0.attn.", "qkv_proj", "out_proj"),
    "phi3": ("model.layers.0.self_attn.", "qkv_proj", "o_proj"),
    "gpt_neox": ("gpt_neox.layers.0.attention.", "query_key_value", "dense"),
    "bloom": ("transformer.h.0.self_attention.", "query_key_value", "dense"),
    "persimmon": ("model.layers.0.self_attn.", "query_key_value", "dense"),
    "falcon": ("transformer.h.0.self_attention.", "query_key_value", "dense"),
    "falcon multi-query": ("transformer.h.0.self_attention.", "query_key_value", "dense"),
    "falcon grouped": ("transformer.h.0.self_attention.", "query_key_value", "dense"),
    "mpt": ("transformer.blocks.0.attn.", "Wqkv", "out_proj"),
    "modernbert": ("model.layers.0.attn.", "Wqkv", "Wo"),
}
"""The first layer's fused projection and the module that takes what the attention gives."""


def used_of(family: str, n_tokens: int) -> Tensor:
    """Which elements of the fused weight the attention's last output depends on, (out, in).

    The projection is fed unit vectors: the first token meets only the first column of the weight,
    the second only the second.
    """
    model = build(family).double()
    stem, fused, after = ATTENTION[family]
    projection = model.get_submodule(stem + fused)
    given: list[Tensor] = []
    shape = projection.weight.shape
    n_in = shape[0] if isinstance(projection, Conv1D) else shape[1]
    projection.register_forward_pre_hook(lambda *_: torch.eye(n_in).double()[None, :n_tokens])
    model.get_submodule(stem + after).register_forward_pre_hook(lambda _, x: given.append(x[0]))
    model(torch.arange(3, 3 + n_tokens)[None])
    (given[0].reshape(n_tokens, -1)[-1] * torch.arange(1.0, 17.0)).sum().backward()
    gradient = (
        projection.weight.grad.T if isinstance(projection, Conv1D) else projection.weight.grad
    )
    return gradient.abs() > 1e-12 * gradient.abs().max()


@pytest.mark.parametrize("family", ATTENTION)
def test_queries_keys_and_values_are_those_the_model_takes(family: str) -> None:
    """One token alone is its value; of two, the first one's query tells the second nothing."""
    alone, two = used_of(family, 1), used_of(family, 2)
    values = alone[:, 0]
    keys = two[:, 0] & ~values
    queries = two[:, 1] & ~two[:, 0]
    model = tiny(family)
    shapes = shapes_of(model)
    name = "".join(ATTENTION[family][:2]) + ".weight"
    parts = Matrices(shapes, config_of(model), None).of(name)
    rows = np.arange(len(values))
    turned = parts[0].inner[0][1] != 1
    grid = np.tile(rows, (parts[0].n_in, 1)) if turned else np.tile(rows[:, None], parts[0].n_in)
    taken = [np.unique(view(part, grid.ravel().copy())) for part in parts]
    expected = [np.flatnonzero(rows_of.numpy()) for rows_of in (queries, keys, values)]
    if family == "codegen":
        expected = [expected[0], expected[2], expected[1]]
    assert [t.tolist() for t in taken] == [e.tolist() for e in expected]


GATED = {
    "phi3": ("model.layers.0.mlp", "gate_up_proj.weight"),
    "glm": ("model.layers.0.mlp", "gate_up_proj.weight"),
    "modernbert": ("model.layers.0.mlp", "Wi.weight"),
    "mixtral": ("model.layers.0.mlp.experts", "gate_up_proj"),
    "qwen3_moe": ("model.layers.0.mlp.experts", "gate_up_proj"),
    "granitemoe": ("model.layers.0.block_sparse_moe.experts", "gate_up_proj"),
    "deepseek_v3": ("model.layers.1.mlp.experts", "gate_up_proj"),
    "gpt_oss": ("model.layers.0.mlp.experts", "gate_up_proj"),
    "gpt_oss square": ("model.layers.0.mlp.experts", "gate_up_proj"),
    "llama4": ("model.layers.0.feed_forward.experts", "gate_up_proj"),
    "llama4 square": ("model.layers.0.feed_forward.experts", "gate_up_proj"),
}
"""A module and its fused weight."""


@pytest.mark.parametrize("family", GATED)
def test_gate_and_up_are_those_the_model_takes(family: str) -> None:
    """A gated unit is affine in its up projection, and not in its gate."""
    model = build(family)
    module, own = GATED[family]
    found: list[Tensor] = []
    model.get_submodule(module).register_forward_hook(lambda _m, _i, out: found.append(out))
    name = f"{module}.{own}"
    parts = Matrices(shapes_of(model), config_of(model), None).of(name)
    weight = model.get_parameter(name).data
    weight.normal_(std=0.1)  # gpt-oss cuts at 7

    def bent(which: tuple[Matrix, ...]) -> float:
        before = weight.clone()
        for factor in (0.0, 1.0, 2.0):
            flat = before.numpy().ravel().copy()
            for part in which:
                scaled = view(part, flat)
                scaled *= factor
            weight.copy_(torch.from_numpy(flat).view_as(weight))
            with torch.no_grad():
                model(torch.tensor([[3, 4, 5]]))
        weight.copy_(before)
        none, once, twice = found[-3:]
        return float((twice - 2 * once + none).norm() / once.norm())

    gates, ups = parts[::2], parts[1::2]
    assert bent(ups) < 1e-5
    assert bent(gates) > 1e-3


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "gpt_oss square", "llama4 square"])
def test_experts_lie_as_their_shapes_tell(family: str) -> None:
    """Square ones too, where up and down projection tell only together."""
    model = tiny(family)
    shapes = shapes_of(model)
    matrices = Matrices(shapes, config_of(model), None)
    n_in, inner = 16, int(MODELS[family][2]["intermediate_size"])
    ups = [n for n in shapes if n.endswith("experts.gate_up_proj")]
    for up in ups:
        assert {(m.n_out, m.n_in) for m in matrices.of(up)} == {(inner, n_in)}
        down = matrices.of(up.replace("gate_up", "down"))
        assert {(m.n_out, m.n_in) for m in down} == {(n_in, inner)}
        stored_as_out_in = family == "mixtral"
        assert all(m.is_plain is stored_as_out_in for m in down)


def test_experts_of_dbrx_one_below_the_other() -> None:
    stem = "transformer.blocks.0.ffn.experts.mlp"
    shapes = {f"{stem}.{own}": (12, 8) for own in ("w1", "v1", "w2")}
    config = {"model_type": "dbrx", "d_model": 8, "ffn_config": {"moe_num_experts": 3}}
    matrices = Matrices(shapes, config, None)
    assert matrices.of(f"{stem}.w1") == tuple(Matrix.plain(4, 8, 32 * i) for i in range(3))
    assert matrices.of(f"{stem}.w2") == tuple(Matrix.turned(8, 4, 32 * i) for i in range(3))


def test_internlm2_has_its_queries_beside_their_key_and_value() -> None:
    name = "model.layers.0.attention.wqkv.weight"
    config = {
        "model_type": "internlm2",
        "hidden_size": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    rows = np.repeat(np.arange(16), 8)
    parts = Matrices({name: (16, 8)}, config, None).of(name)
    taken = [np.unique(view(part, rows.copy())).tolist() for part in parts]
    assert taken == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]]


@pytest.mark.parametrize(
    ("name", "shape", "config"),
    [
        ("h.0.self_attention.query_key_value.weight", (24, 8), None),
        ("h.0.self_attention.query_key_value.weight", (24, 8), {"model_type": "new"}),
        ("layers.0.self_attn.qkv_proj.weight", (16, 8), {"hidden_size": 8}),
        (
            "layers.0.self_attn.qkv_proj.weight",
            (18, 8),
            {"hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2},
        ),
        (
            "layers.0.self_attn.qkv_proj.weight",
            (16, 8),
            {
                "text_config": {"hidden_size": 8, "num_heads": 4, "num_kv_heads": 2},
                "audio_config": {
                    "hidden_size": 8,
                    "num_heads": 2,
                    "num_kv_heads": 1,
                    "head_dim": 4,
                },
                "image_config": {
                    "hidden_size": 8,
                    "num_heads": 6,
                    "num_kv_heads": 1,
                    "head_dim": 2,
                },
            },
        ),
        ("layers.0.mlp.gate_up_proj.weight", (15, 8), None),
        ("layers.0.mlp.fc1.weight", (16, 8), None),
        ("backbone.layers.0.mixer.in_proj.weight", (32, 8), {"model_type": "mamba"}),
    ],
)
def test_what_is_not_certain_is_one_map(
    name: str, shape: tuple[int, int], config: dict[str, object] | None
) -> None:
    assert Matrices({name: shape}, config, None).of(name) == (Matrix.plain(*shape),)


def test_a_tower_is_known_by_its_sizes() -> None:
    name = "model.language_model.layers.0.self_attn.qkv_proj.weight"
    config = {
        "text_config": {"hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2},
        "vision_config": {"hidden_size": 6, "num_attention_heads": 3},
    }
    assert Matrices({name: (16, 8)}, config, None).of(name) == Matrix.plain(16, 8).split((8, 4, 4))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.experts.gate_up_proj_bias",
        "model.layers.0.mlp.experts.0.conv.weight",
        "base_model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "backbone.layers.0.mixer.A_log",
        "model.layers.0.self_attn.q_norm.weight",
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "model.layers.0.block_sparse_moe.router.layer.weight",
        "audio.codebooks.0.weight",
        "vision_model.embeddings.position_embedding.weight",
    ],
)
def test_what_passes(name: str) -> None:
    shape = (4, 4, 3) if ".conv." in name else (4, 4)
    assert Matrices({name: shape}, None, None).of(name) == ()


def test_a_gate_routes_where_experts_stand_beside_it() -> None:
    names = [f"layers.{i}.mlp.gate.weight" for i in range(2)]
    names += ["layers.0.mlp.experts.0.w1.weight", "layers.1.mlp.down.weight"]
    matrices = Matrices(dict.fromkeys(names, (4, 4)), None, None)
    assert [len(matrices.of(name)) for name in names] == [0, 1, 1, 1]


def test_patterns_replace_the_choice_and_not_the_split() -> None:
    shapes = {
        "embed_tokens.weight": (9, 4),
        "layers.0.self_attn.qkv.weight": (12, 4),
        "layers.0.mlp.up_proj.weight": (8, 4),
        "layers.0.mlp.up_proj.bias": (8,),
        "layers.0.conv.weight": (6, 4, 2, 2),
        "layers.0.empty.weight": (0, 4),
    }
    patterns = [
        "embed",
        "layers.?.self_attn.*",
        "conv",
        "*.bias",
        "up_proj.bias",
        "empty",
        "q?v",
        "*",
    ]
    chosen = Matrices(shapes, None, patterns[:-1])
    assert chosen.of("embed_tokens.weight") == (Matrix.plain(9, 4),)
    assert chosen.of("layers.0.self_attn.qkv.weight") == Matrix.plain(12, 4).split((4, 4, 4))
    assert chosen.of("layers.0.conv.weight") == (Matrix.plain(6, 16),)
    assert chosen.of("layers.0.mlp.up_proj.weight") == ()
    assert chosen.of("layers.0.mlp.up_proj.bias") == ()
    assert chosen.of("layers.0.empty.weight") == ()
    assert Matrices(shapes, None, patterns).idle() == ["*.bias", "up_proj.bias", "empty", "q?v"]
    assert not any(map(Matrices(shapes, None, []).of, shapes))


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        (None, False),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),
        ({"text_config": {"tie_word_embeddings": True}, "tie_word_embeddings": False}, True),
        ({"model_type": "gpt2"}, True),
        ({"transformers_version": "4.57.1"}, True),
        ({"transformers_version": "5.0.0"}, False),
        ({"transformers_version": None}, True),
    ],
)
def test_a_tied_head_is_a_copy_and_an_untied_one_a_map(
    config: dict[str, object] | None, tied: bool
) -> None:
    shapes = {"model.embed_tokens.weight": (9, 4), "lm_head.weight": (9, 4)}
    assert is_tied_copy("lm_head.weight", shapes, config) is tied
    assert len(Matrices(shapes, config, None).of("lm_head.weight")) == (not tied)
    assert not is_tied_copy("model.embed_tokens.weight", shapes, config)
    assert not is_tied_copy("lm_head.weight", ["lm_head.weight"], config)


@pytest.mark.parametrize("family", MODELS)
def test_copies_are_the_parameters_that_stand_in_two_places(family: str) -> None:
    model = tiny(family)
    names = shapes_of(model)
    distinct = {name for name, _ in model.named_parameters()}
    tables = [name for name in names if len(names[name]) == 2]
    copies = {name for name in names if is_tied_copy(name, names, config_of(model))}
    assert len(copies) == len(tables) - len(distinct.intersection(tables))
    assert all(
        any(model.get_parameter(c) is model.get_parameter(d) for d in distinct) for c in copies
    )
