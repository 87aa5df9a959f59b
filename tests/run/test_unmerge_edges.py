"""Recipes of every form, taken apart: colliding names, a base among the models, copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from merged_families import promised, write_related

import mdm_kit

SPREAD = "{filter: mlp, value: [0.1, 0.9]}, {value: 0.5}"
SHARED = f"parameters: {{weight: [{SPREAD}], lambda: 0.8, scope: layer}}\ndtype: bfloat16\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_related(root, "0.3", n=3)
    for there, name in (("a/math", "m1"), ("b/math", "m2"), ("b/m1", "m1")):
        shutil.copytree(root / name, root / there)
    return root


def text(root: Path, method: str, models: list[str], rest: str, *, base: bool = True) -> str:
    """`NAME` or `NAME as OTHER` for each model."""
    lines = [f"merge_method: {method}", *([f"base_model: {root}/base"] if base else []), "models:"]
    for model in models:
        folder, _, name = model.partition(" as ")
        given = f", name: {name}" if name else ""
        lines.append(f"  - {{model: {root}/{folder}{given}}}")
    return "\n".join([*lines, rest]) + "\n"


HALF = "parameters: {weight: 0.4}"
CASES = {
    "names collide": ("mdm_oc", ["a/math", "b/math", "m3"], "a/math", 0, ""),
    "names collide, second": ("mdm_oc", ["a/math", "b/math", "m3"], "b/math", 1, ""),
    "base among the models": ("task_arithmetic", ["base", "m1", "m2"], "m2", 2, HALF),
    "average with the base": ("linear", ["m1", "base", "m2"], "m2", 2, HALF),
    "the base's own share": ("linear", ["m1", "base", "m2"], "base", 1, HALF),
    "filters and gradients": ("mdm_oc", ["m1", "m2", "m3"], "m2", 1, SHARED),
    "one model twice": ("mdm_oc", ["m1 as x", "m1 as y", "m2"], "x", 0, ""),
    "one model twice, second": ("mdm_oc", ["m1 as x", "m1 as y", "m2"], "y", 1, ""),
    "copies": ("mdm_oc", ["m1 as one", "b/m1", "m2"], "one", 0, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rest_is_a_merge_of_its_own(root: Path, tmp_path: Path, case: str) -> None:
    method, models, drop, at, rest = CASES[case]
    running = mdm_kit.Running(shard_nbytes=300_000)
    whole = text(root, method, models, rest)
    mdm_kit.merge(whole, tmp_path / "all", shard_nbytes=300_000)
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", [drop], running=running)
    left = models[:at] + models[at + 1 :]
    mdm_kit.merge(text(root, method, left, rest), tmp_path / "never", shard_nbytes=300_000)
    assert promised(tmp_path / "out") == promised(tmp_path / "never")
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound
    names = [s.name for s in mdm_kit.verify(tmp_path / "out").manifest.sources]
    assert drop not in names or drop == "base"


def test_without_a_base_the_next_model_gives_config_and_names(root: Path, tmp_path: Path) -> None:
    def recipe(*models: str) -> str:
        return text(root, "linear", list(models), HALF, base=False)

    mdm_kit.merge(recipe("m1", "m2", "m3"), tmp_path / "all")
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m1"])
    mdm_kit.merge(recipe("m2", "m3"), tmp_path / "never")
    assert promised(tmp_path / "out") == promised(tmp_path / "never")
