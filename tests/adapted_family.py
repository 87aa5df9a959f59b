"""A base, adapters on it, and the same models written out whole, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from adapters import factors, write_adapter
from families import write_model
from llamas import Sizes, config, llama
from torch import Tensor

SIZES = Sizes(layers=2, hidden=24, inner=40, vocabulary=96)
SHAPES = {"self_attn.q_proj": (24, 24), "mlp.up_proj": (40, 24), "mlp.down_proj": (24, 40)}
MODULES = {f"model.layers.{i}.{name}": s for i in range(2) for name, s in SHAPES.items()}


def write_adapted(root: Path, adapters: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Write `base`, each adapter and, as `NAME-whole`, the base with it; return the base.

    An adapter is described by its `rank`, the `modules` it has, `seed` and `alpha`.
    """
    base = llama(SIZES, torch.bfloat16)
    write_model(root / "base", base, config=config(SIZES, torch.bfloat16))
    for name, about in adapters.items():
        rank, alpha = about.get("rank", 2), about.get("alpha", 4)
        modules = {m: s for m, s in MODULES.items() if about.get("modules", "") in m}
        own = factors(modules, rank, about.get("seed", 0))
        write_adapter(root / name, own, r=rank, lora_alpha=alpha, base_model_name_or_path="base")
        whole = {n: t.double() for n, t in base.items()}
        for module in modules:
            b, a = (own[f"{module}.lora_{k}.weight"].double() for k in "BA")
            whole[f"{module}.weight"] += alpha / rank * b @ a
        write_model(root / f"{name}-whole", whole, config=config(SIZES, torch.float64))
    return base


def recipe(root: Path, method: str, names: Mapping[str, str], more: str = "") -> str:
    """A recipe of models by name: `+` puts the adapter of that name on the base, `-` is whole."""
    lines = [f"merge_method: {method}", f"base_model: {root}/base", "models:"]
    for name, form in names.items():
        ref = f"{root}/base+{root}/{name}" if form.startswith("+") else f"{root}/{name}-whole"
        weight = form[1:]
        own = f", parameters: {{weight: {weight}}}" if weight else ""
        lines.append(f"  - {{model: {ref}, name: {name}{own}}}")
    return "\n".join([*lines, more, ""])
