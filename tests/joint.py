"""Recipes of the methods that join all models' changes to a map at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdm_kit.methods.registry import methods

WEIGHTS = {1: 1.0, 2: 0.7, 3: 1.3, 4: 0.5}
"""What models weigh, by their number, where the method has weights."""


def has_weights(method: str) -> bool:
    return any(s.name == "weight" for s in methods()[method].params.specs())


def joint_recipe(
    root: Path, method: str, models: Sequence[int], settings: str = "", more: str = ""
) -> str:
    """Merge `m1`, `m2`, ... under `root`; `settings` are parameters of the whole merge."""
    entries = [
        f"{{model: {root}/m{i}"
        + (f", parameters: {{weight: {WEIGHTS[i]}}}}}" if has_weights(method) else "}")
        for i in models
    ]
    return (
        f"merge_method: {method}\nbase_model: {root}/base\nmodels: [{', '.join(entries)}]\n"
        f"parameters: {{{settings}}}\n{more}\n"
    )
