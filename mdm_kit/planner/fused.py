"""How a tensor is made of linear maps: turned, packed by expert, fused q/k/v and gate/up.

What a name says of it, and config.json where a name is not enough. A tensor whose parts are not
certain is one map: it still is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mdm_kit.maths.matrix import Matrix

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, object]

_PACK = re.compile(
    r"(?:^|[._])experts\.(?!\d)(?!.*(?:bias|scales?)$)|\.(?:in|out)put_linear\.weight$"
)
"""Experts in one tensor (E, ., .): transformers 5 and its forerunners; GraniteMoe and JetMoe."""
_DBRX = re.compile(r"\.experts\.mlp\.(?:w1|v1|w2)$")
"""DBRX's experts lie one below the other: (E * ffn, hidden)."""
_TURNED = re.compile(r"(?:^|\.)mm_input_projection_weight$")
"""Stored (in, out): Gemma 3's projector."""
_CONV1D = re.compile(r"^(.*?)(?:attn|crossattention|mlp)\.(?:c_attn|q_attn|c_proj|c_fc)\.weight$")
"""Names of GPT-2, whose Conv1D stores (in, out), and of others, whose nn.Linear does not."""

_UP_AND_DOWN = {"gate_up_proj": "down_proj", "fc1": "fc2", "input_linear": "output_linear"}
_INTO_EXPERT = {*_UP_AND_DOWN, "gate_proj", "up_proj"}
_GATED = {"gate_up_proj", "Wi"}
"""Gate and up projection in one; `Wi` is ModernBERT's. The others are where twice as many features
come out of them as go into the down projection."""

_STACKED = {"qkv_proj", "qkv", "Wqkv", "W_pack", "c_attn", "in_proj_weight"}
"""All q, then all k, then all v, unless the model's type says otherwise."""
_THIRDS = {"qkv", "Wqkv", "W_pack", "in_proj_weight"}
"""Those that are known to be so without a config where the three are equal."""
_BY_HEAD = {
    *("bloom", "gpt_neox", "gpt_neox_japanese", "persimmon"),
    *("minimax", "minimax_text_01", "minimax_m1"),
}
"""Models whose fused rows are q, k, v of each head in turn."""
_FALCON = {"falcon", "RefinedWeb", "RefinedWebModel"}
_CODEGEN_SLICES = 4
"""CodeGen's rows are those of four TPU slices, each with its q, v and k (`mp_num`)."""

_HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model", "embed_dim")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads")
_HEAD_DIM = ("head_dim", "kv_channels")


def configs_in(config: Config | None) -> list[Config]:
    """Return a config and every mapping inside it: models of several towers nest theirs."""
    found: list[Config] = [config] if config is not None else []
    for part in found:  # grows as it goes
        found += [v for v in part.values() if isinstance(v, Mapping)]
    return found


def leaf(name: str) -> str:
    """Return the last part of a tensor's name that is not `weight`."""
    return name.removesuffix(".weight").rpartition(".")[2]


def is_pack(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor holds the linear maps of several experts."""
    if len(shape) == 2:
        return _DBRX.search(name) is not None
    return len(shape) == 3 and _PACK.search(name) is not None


def is_turned_parameter(name: str) -> bool:
    """Whether a bare parameter is a linear map stored as (in, out)."""
    return _TURNED.search(name) is not None


def matrices_in(name: str, shapes: Shapes, configs: Sequence[Config]) -> tuple[Matrix, ...]:
    """Return the linear maps of a tensor, each of its elements in exactly one.

    The tensor has two dimensions or more and no empty one; a convolution's kernel is one map
    (out, in * k * k). `shapes` are those of the whole checkpoint: neighbours tell how it is stored.
    """
    shape = shapes[name]
    if is_pack(name, shape):
        return tuple(_experts(name, shapes, configs))
    if len(shape) > 2:
        return (Matrix.plain(shape[0], math.prod(shape[1:])),)
    if _TURNED.search(name) or _is_conv1d(name, shapes):
        whole = Matrix.turned(shape[1], shape[0])
    else:
        whole = Matrix.plain(*shape)
    runs = _gate_and_up(name, whole, shapes, configs) or _query_key_value(name, whole, configs)
    return whole.split(*runs) if runs else (whole,)


Runs = tuple[tuple[int, ...], int]
"""The sizes of the parts, and how often they run through the output features."""


def _is_conv1d(name: str, shapes: Shapes) -> bool:
    """Whether the c_attn of a tensor's layer is wider than high, and so stored as (in, out)."""
    match = _CONV1D.search(name)
    fused = shapes.get(f"{match[1]}attn.c_attn.weight") if match else None
    return fused is not None and len(fused) == 2 and fused[1] > fused[0]


def _experts(name: str, shapes: Shapes, configs: Sequence[Config]) -> Iterator[Matrix]:
    shape = shapes[name]
    if len(shape) == 2:
        stated = next((n for c in configs if (n := _count(c, ("moe_num_experts",)))), 1)
        n = stated if shape[0] % stated == 0 else 1
        high, wide = shape[0] // n, shape[1]
        turned = leaf(name) == "w2"
    else:
        n, high, wide = shape
        turned = _is_turned_pack(name, shapes, configs)
    first = Matrix.turned(wide, high) if turned else Matrix.plain(high, wide)
    runs = _gate_and_up(name, first, shapes, configs)
    for start in range(0, n * high * wide, high * wide):
        matrix = replace(first, start=start)
        yield from matrix.split(*runs) if runs else (matrix,)


def _is_turned_pack(name: str, shapes: Shapes, configs: Sequence[Config]) -> bool:
    """Whether experts are stored as (E, in, out); the shapes of up and down projection tell."""
    own = leaf(name)
    up = next((up for up, down in _UP_AND_DOWN.items() if own in (up, down)), None)
    above = shapes.get(_beside(name, up), ()) if up else ()
    below = shapes.get(_beside(name, _UP_AND_DOWN[up]), ()) if up else ()
    if len(above) == len(below) == 3 and above[0] == below[0]:
        plain = above[1:] == (2 * below[2], below[1])
        turned = above[1:] == (below[2], 2 * below[1])
        if plain or turned:
            return turned
    hidden = {_count(c, _HIDDEN) for c in configs}
    _, high, wide = shapes[name]
    fits = (high in hidden, wide in hidden)
    return fits == ((True, False) if own in _INTO_EXPERT else (False, True))


def _gate_and_up(
    name: str, matrix: Matrix, shapes: Shapes, configs: Sequence[Config]
) -> Runs | None:
    own = leaf(name)
    models = {c.get("model_type") for c in configs}
    half, odd = divmod(matrix.n_out, 2)
    if own in _UP_AND_DOWN and own not in _GATED:
        down = shapes.get(_beside(name, _UP_AND_DOWN[own]), ())
        features = down[-1:] if matrix.inner[0][1] == 1 else down[-2:-1]
        fused = features == (half,)
    else:
        fused = own in _GATED or (own == "dense_h_to_4h" and "chatglm" in models)
    if odd or not fused:
        return None
    if own == "gate_up_proj" and "gpt_oss" in models and is_pack(name, shapes[name]):
        return (1, 1), half  # gate and up take turns
    if f"{name}_bias" in shapes and "openai_privacy_filter" not in models:
        return None  # gpt-oss, or not: no config says so
    return (half, half), 1


def _beside(name: str, other: str) -> str:
    """Return the name of a tensor of the same module whose own name is `other`."""
    stem = name.removesuffix(".weight")
    return f"{stem.rpartition('.')[0]}.{other}{name[len(stem) :]}"


def _query_key_value(name: str, matrix: Matrix, configs: Sequence[Config]) -> Runs | None:
    own = leaf(name)
    if own not in _STACKED and own not in ("query_key_value", "wqkv"):
        return None
    found = {
        runs
        for config in configs
        if _count(config, _HIDDEN) == matrix.n_in
        for runs in _runs_of(own, config)
        if sum(runs[0]) * runs[1] == matrix.n_out
    }
    if len(found) == 1:
        return found.pop()
    if found:
        return None  # two towers fit, and differ
    if own == "c_attn" and not matrix.is_plain and matrix.n_out == 2 * matrix.n_in:
        return (matrix.n_in,) * 2, 1  # GPT-2's cross attention: k and v
    certain = own in _THIRDS or not matrix.is_plain
    return ((matrix.n_in,) * 3, 1) if certain and matrix.n_out == 3 * matrix.n_in else None


def _runs_of(own: str, config: Config) -> Iterator[Runs]:
    """Yield how a config may order the rows of q, k and v; `own` is the tensor's own name."""
    heads, hidden = _count(config, _HEADS), _count(config, _HIDDEN)
    dim = _count(config, _HEAD_DIM) or (hidden // heads if heads else 0)
    if not heads or not dim:
        return
    model = config.get("model_type")
    inside = config.get("attn_config")  # where MPT and DBRX keep it
    kv = _count(config, _KV_HEADS) or _count(inside, _KV_HEADS) or heads
    repeats = 1
    if model in _BY_HEAD:
        kv = repeats = heads
    elif model in _FALCON:
        if config.get("new_decoder_architecture") or "n_head_kv" in config:
            repeats = kv
        elif config.get("multi_query"):
            kv = 1
        else:
            kv = repeats = heads
    elif model == "gpt_bigcode":
        kv, repeats = (1, 1) if config.get("multi_query") else (heads, heads)
    elif model == "internlm2":
        repeats = kv
    elif model == "codegen":
        repeats = _CODEGEN_SLICES
    elif model == "chatglm":
        grouped = config.get("multi_query_attention")
        kv = _count(config, ("multi_query_group_num",)) if grouped else heads
    elif own not in _STACKED:
        return
    sizes = (heads * dim, kv * dim, kv * dim)
    if not any(size % repeats for size in sizes):
        yield tuple(size // repeats for size in sizes), repeats


def _count(config: object, keys: tuple[str, ...]) -> int:
    """Return the first of `keys` that is a positive whole number in a config, or 0."""
    found = (config.get(key) for key in keys) if isinstance(config, Mapping) else ()
    return next((v for v in found if isinstance(v, int) and v is not True and v > 0), 0)
