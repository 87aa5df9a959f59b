"""The mixtures dense models can become: names of their tensors and keys of their config.

The one file that knows them. Names are those in which transformers and others publish such models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

DENSE = re.compile(r"^(.*\.)mlp\.(gate|up|down)_proj\.weight$")
"""A feed-forward tensor of the families that become mixtures: what stands before it, and which."""

Keys = Callable[[Mapping[str, Any], int, int, int], dict[str, Any]]
"""From the base's config, the numbers of experts, of experts per token and of shared ones."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of mixture, and the `title` mergekit-moe's recipes may call it by.

    `families` are the base's `model_type`s it can be made of. `parts` are what gate, up and down
    are called in an expert. `expert` and `shared` hold `{expert}` and `{part}`; `router` is the
    tensor of routers, `shared_router` that of a gate of the shared expert, where there is one.
    `n_shared` are the numbers of shared experts it can have; `keys` gives the keys of its config.
    """

    name: str
    title: str
    families: frozenset[str]
    parts: Mapping[str, str]
    expert: str
    router: str
    keys: Keys
    n_shared: tuple[int, ...] = (0,)
    shared: str = ""
    shared_router: str = ""


_PROJECTIONS = {part: f"{part}_proj" for part in ("gate", "up", "down")}


def _attending(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that say that every layer attends to all tokens."""
    kinds = config.get("layer_types")
    every = {"layer_types": ["full_attention"] * len(kinds)} if isinstance(kinds, list) else {}
    return {"sliding_window": None} | every


def _mixtral(config: Mapping[str, Any], n: int, k: int, shared: int) -> dict[str, Any]:  # noqa: ARG001
    return _attending(config) | {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": n,
        "num_experts_per_tok": k,
    }


def _qwen2(config: Mapping[str, Any], n: int, k: int, shared: int) -> dict[str, Any]:
    return (
        _qwen3(config, n, k, shared)
        | _attending(config)
        | {
            "model_type": "qwen2_moe",
            "architectures": ["Qwen2MoeForCausalLM"],
            "shared_expert_intermediate_size": config.get("intermediate_size"),
            "qkv_bias": config.get("model_type") == "qwen2",
            "use_sliding_window": False,
        }
    )


def _qwen3(config: Mapping[str, Any], n: int, k: int, shared: int) -> dict[str, Any]:  # noqa: ARG001
    return {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "num_experts": n,
        "num_experts_per_tok": k,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "moe_intermediate_size": config.get("intermediate_size"),
    }


def _deepseek(config: Mapping[str, Any], n: int, k: int, shared: int) -> dict[str, Any]:
    return {
        "model_type": "deepseek",
        "architectures": ["DeepseekForCausalLM"],
        "n_routed_experts": n,
        "n_shared_experts": shared or None,
        "num_experts_per_tok": k,
        "first_k_dense_replace": 0,
        "moe_layer_freq": 1,
        "scoring_func": "softmax",
        "norm_topk_prob": True,
        "moe_intermediate_size": config.get("intermediate_size"),
    }


_LIKE_LLAMA = frozenset({"llama", "mistral"})
TARGETS = (
    Target(
        "mixtral",
        "Mixtral",
        _LIKE_LLAMA,
        {"gate": "w1", "down": "w2", "up": "w3"},
        "block_sparse_moe.experts.{expert}.{part}.weight",
        "block_sparse_moe.gate.weight",
        _mixtral,
    ),
    Target(
        "qwen3",
        "Qwen3 MoE",
        frozenset({"qwen3"}),
        _PROJECTIONS,
        "mlp.experts.{expert}.{part}.weight",
        "mlp.gate.weight",
        _qwen3,
    ),
    Target(
        "qwen",
        "Qwen MoE",
        _LIKE_LLAMA | {"qwen2"},
        _PROJECTIONS,
        "mlp.experts.{expert}.{part}.weight",
        "mlp.gate.weight",
        _qwen2,
        (1,),
        "mlp.shared_expert.{part}.weight",
        "mlp.shared_expert_gate.weight",
    ),
    Target(
        "deepseek",
        "DeepSeek MoE",
        _LIKE_LLAMA,
        _PROJECTIONS,
        "mlp.experts.{expert}.{part}.weight",
        "mlp.gate.weight",
        _deepseek,
        (0, 1),
        "mlp.shared_experts.{part}.weight",
    ),
)
"""In the order they are tried in where a recipe names none."""


def target_of(name: str | None, family: str, n_shared: int, *, gated: bool) -> Target | str:
    """Return the first mixture that fits, or why none does.

    `name` is what the recipe calls it: the beginning of its title, as in mergekit-moe. `family` is
    the base's `model_type`; shared experts that are `gated` have prompts, or gates by chance.
    """
    chosen = [t for t in TARGETS if name is None or t.title.lower().startswith(name.lower())]
    if not chosen:
        known = ", ".join(t.name for t in TARGETS)
        return f"there is no mixture {name!r}; there are {known}"
    why = []
    for target in chosen:
        if family not in target.families:
            why.append(f"{target.name} is made of {', '.join(sorted(target.families))}")
        elif n_shared not in target.n_shared:
            wanted = " or ".join(map(str, target.n_shared))
            why.append(f"{target.name} has {wanted} shared expert{'' if wanted == '1' else 's'}")
        elif n_shared and target.shared_router and not gated:
            why.append(f"{target.name} needs positive_prompts for its shared expert")
        else:
            return target
    shared = f"{n_shared} shared expert{'' if n_shared == 1 else 's'}"
    return f"no mixture is made of {family} with {shared}: " + "; ".join(why)
