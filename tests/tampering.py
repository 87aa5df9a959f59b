"""Manifests of the golden merges of sums, changed and sealed anew, so that every digest fits."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mdm_kit
from mdm_kit.ledger.canonical import canonical, digest
from mdm_kit.ledger.manifest import sections_of
from mdm_kit.ledger.sums import energies_of, lambdas_of, mean_norm_scale, totals_of

GOLDEN = Path(__file__).parent / "ledger" / "golden" / "1" / "sums"
UP = "model.layers.0.mlp.up_proj.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"
STATE = "deltas/state-00001.safetensors"
Content = dict[str, Any]
Edit = Callable[[Content], object]


def seal(content: Content) -> bytes:
    """Return a manifest whose digests fit, those of its history too."""
    content = {name: part for name, part in content.items() if name != "digest"}
    content["history"][-1]["sections"] = sections_of(content)
    certificate = content["history"][-1]["certificate"]
    if certificate is not None:
        weights = {name: shard["sha256"] for name, shard in content["shards"].items()}
        certificate["weights"] = digest(weights)
    return canonical({**content, "digest": digest(content)})


def tampered(tmp_path: Path, merge: str, edit: Edit) -> Path:
    folder = tmp_path / merge
    shutil.copytree(GOLDEN / merge, folder)
    path = folder / "mdm_manifest.json"
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_bytes(seal(content))
    return folder


def put(*keys: str | int, value: object) -> Edit:
    """Return an edit of one place in `sums`."""

    def edit(content: Content) -> None:
        place = content["sums"]
        for key in keys[:-1]:
            place = place[key]
        assert place[keys[-1]] != value
        place[keys[-1]] = value

    return edit


def drop(*keys: str | int) -> Edit:
    def edit(content: Content) -> None:
        place = content["sums"]
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


def follow(content: Content) -> None:
    """Make norms, lambdas and scale follow from the tensors, as the merge does."""
    facts = mdm_kit.Manifest.from_bytes(seal(content)).sums.tensors
    energies, totals = energies_of(facts.values()), totals_of(facts.values())
    content["sums"]["norms"] = [math.sqrt(e) for e in energies]
    if totals:
        scale = mean_norm_scale(energies, totals[-1])
        content["sums"].update(lambdas=lambdas_of(facts), scale=scale)


def and_follow(edit: Edit) -> Edit:
    """Return an edit whose consequences are drawn."""

    def edited(content: Content) -> None:
        edit(content)
        follow(content)

    return edited


def of_tensor(name: str, what: str, i: int, factor: float) -> Edit:
    def edit(content: Content) -> None:
        content["sums"]["tensors"][name][what][i] *= factor

    return edit


def each(what: str, change: Callable[[Any], None]) -> Edit:
    """Return an edit of one list of every tensor."""

    def edit(content: Content) -> None:
        for fact in content["sums"]["tensors"].values():
            change(fact[what])

    return edit


def swap(numbers: list[float]) -> None:
    numbers[0], numbers[2] = numbers[2], numbers[0]


def renamed(name: str) -> Edit:
    """Return an edit that names the file of sums otherwise, everywhere."""

    def edit(content: Content) -> None:
        content["files"][name] = content["files"].pop(STATE)
        content["sums"]["files"] = [name]

    return edit


def in_recipe(old: str, new: str) -> Edit:
    def edit(content: Content) -> None:
        assert old in content["recipe"]
        content["recipe"] = content["recipe"].replace(old, new)

    return edit
