"""Finished merges as a push leaves them on the Hub: made once, put into repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from mdm_kit.ledger.entries import DeltasEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from server import Hub

MODELS = ("base", "a", "b", "c")
N_ELEMENTS = 150_000
"""A shard of two such tensors is far longer than what is asked for to read its header."""

RECIPE = """
merge_method: mdm_oc
base_model: org/base
models: [{model: org/a}, {model: org/b, parameters: {weight: 0.5}}, {model: org/c}]
ledger: {keep: KEEP}
"""


def recipe(keep: str = "references", *, without: str = "") -> str:
    """Return the recipe of the merge, or of the merge that never held a model."""
    gone = {"b": "{model: org/b, parameters: {weight: 0.5}}, ", "": "nothing"}[without]
    return RECIPE.replace("KEEP", keep).replace(gone, "")


def model(seed: int) -> dict[str, bytes]:
    """Return a model's files: four tensors, each moved from the base's by a seed of its own."""
    start, moves = np.random.default_rng(0), np.random.default_rng(seed)
    tensors = {}
    for i in range(4):
        values = start.standard_normal(N_ELEMENTS)
        if seed:
            values = values + 0.01 * moves.standard_normal(N_ELEMENTS)
        tensors[f"layers.{i}.w"] = values.astype(np.float32)
    return {"config.json": b"{}", "model.safetensors": save(tensors, {"format": "pt"})}


def offer_models(hub: Hub) -> dict[str, dict[str, bytes]]:
    """Put base and models into repositories of `org`; return their files."""
    files = {name: model(seed) for seed, name in enumerate(MODELS)}
    for name in MODELS:
        hub.repo(f"org/{name}", files[name])
    return files


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what of a merge is published: every file but the map of this machine."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".mdm_local.json"
    }


def publish(hub: Hub, folder: Path, repo: str) -> str:
    """Put a merge into a repository, its kept models into the one beside it; return the commit."""
    files = files_of(folder)
    kept = {n: data for n, data in files.items() if n.startswith("deltas/")}
    if kept:
        commit = hub.repo(f"{repo}-deltas", kept)
        manifest = Manifest.from_bytes(files[MANIFEST_NAME])
        there = manifest.published_with(DeltasEntry(f"{repo}-deltas", commit))
        files = {n: data for n, data in files.items() if n not in kept}
        files[MANIFEST_NAME] = there.to_bytes()
    return hub.repo(repo, files)
