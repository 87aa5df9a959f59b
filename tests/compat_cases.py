"""Recipes and models in memory for merges in mergekit's arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from families import Spec, read_model, tensors
from torch import Tensor

import mdm_kit
from mdm_kit.methods.registry import methods
from mdm_kit.sources import MemorySource

DIALECT = sorted(name for name, m in methods().items() if m.dialect)
SHAPES: Spec = {
    "matrix": ((300, 301), torch.bfloat16),
    "vector": ((40_001,), torch.float32),
    "half": ((33, 20), torch.float16),
    "cube": ((3, 5, 7), torch.bfloat16),
    "empty": ((0, 5), torch.float32),
    "ids": ((11,), torch.int64),
}


def text(name: str, models: list[str], base: str | None, shared: str = "", more: str = "") -> str:
    """A recipe with a value for all that has no default, and a density of a half."""
    method = methods()[name]
    own = {s.name: 0.4 for s in method.params.specs() if s.per_model and s.required}
    if any(s.name == "density" and not s.inert for s in method.params.specs()):
        own["density"] = 0.5
    values = ", ".join(f"{key}: {value}" for key, value in own.items())
    needed = [s.name for s in method.params.specs() if s.required and not s.per_model]
    shared = ", ".join([*(f"{n}: 0.3" for n in needed), *([shared] if shared else [])])
    listed = "".join(f"  - {{model: {m}, parameters: {{{values}}}}}\n" for m in models)
    head = f"merge_method: {name}\n" + (f"base_model: {base}\n" if base else "")
    return f"{head}models:\n{listed}parameters: {{{shared}}}\n{more}\n"


def memory(name: str, shapes: Spec = SHAPES, size: float = 0.05) -> tuple[str, dict[str, Any]]:
    """A recipe of a method and its models in memory."""
    k = min(3, methods()[name].max_models or 3)
    base = tensors(shapes, 0)
    models = {"org/base": base} if methods()[name].base != "ignored" else {}
    for i in range(k):
        step = tensors(shapes, i + 1)
        models[f"org/m{i}"] = {
            n: (t.double() + size * step[n].double()).to(t.dtype) if t.is_floating_point() else t
            for n, t in base.items()
        }
    given = {ref: MemorySource.from_tensors(ref, m) for ref, m in models.items()}
    base_ref = "org/base" if "org/base" in models else None
    return text(name, [r for r in models if r != "org/base"], base_ref), given


def merged(recipe: str, out: Path, sources: dict[str, Any], **how: Any) -> dict[str, Tensor]:
    mdm_kit.merge(recipe, out, sources=sources, compat="mergekit", **how)
    return read_model(out)


def one(weights: dict[str, Tensor], recipe: str, out: Path) -> Tensor:
    """The merge of one tensor `w`."""
    given = {f"org/{n}": MemorySource.from_tensors(n, {"w": t}) for n, t in weights.items()}
    return merged(recipe, out, given)["w"]
