"""Merges by rules, end to end: the same bytes however the work is cut, whoever came and went."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import ODD, Spec, read_model, write_family

import mdm_kit

WIDE: Spec = {**ODD, "model.layers.0.mlp.down.weight": ((300, 701), torch.bfloat16)}
"""One tensor of more than three blocks among the odd ones."""

EACH = {
    "ties": "weight: 0.5, density: 0.4",
    "dare_ties": "weight: 0.5, density: 0.4",
    "dare_linear": "weight: 0.5, density: 0.4",
    "della": "weight: 0.5, density: 0.4",
    "della_linear": "weight: 0.5, density: 0.4, epsilon: 0.1",
    "breadcrumbs": "weight: 0.5, density: 0.6, gamma: 0.1",
    "breadcrumbs_ties": "weight: 0.5, density: 0.6",
    "sce": "",
    "karcher": "",
    "model_stock": "",
    "multislerp": "weight: 0.5",
    "ram": "",
    "ramplus_tl": "",
    "magmax": "",
    "consensus": "weight: 0.5",
}
SHARED = {
    "sce": "select_topk: 0.3",
    "model_stock": "filter_wise: true",
    "ramplus_tl": "epsilon: 0.02",
}


def recipe(root: Path, method: str, models: list[str]) -> str:
    lines = [f"merge_method: {method}", "seed: 11"]
    lines += [f"base_model: {root}/base"] if method != "karcher" else []
    lines += [f"parameters: {{{SHARED[method]}}}"] if method in SHARED else []
    own = f", parameters: {{{EACH[method]}}}" if EACH[method] else ""
    return "\n".join([*lines, "models:", *(f"  - {{model: {root}/{m}{own}}}" for m in models)])


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wide")
    write_family(root, WIDE, n=3)
    return root


@pytest.mark.parametrize("method", EACH)
def test_threads_and_memory_change_no_byte(family: Path, tmp_path: Path, method: str) -> None:
    text = recipe(family, method, ["m1", "m2", "m3"])
    first = mdm_kit.merge(text, tmp_path / "a", threads=1)
    cut = mdm_kit.merge(text, tmp_path / "b", threads=3, memory_nbytes=1)
    assert first.shards == cut.shards
    assert mdm_kit.verify(tmp_path / "b", deep=True).sound


@pytest.mark.parametrize("method", EACH)
def test_adds_and_drops_leave_no_trace(family: Path, tmp_path: Path, method: str) -> None:
    all_of_them = mdm_kit.merge(recipe(family, method, ["m1", "m2", "m3"]), tmp_path / "all")
    mdm_kit.merge(recipe(family, method, ["m1", "m3"]), tmp_path / "fresh")
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "less", drop=["m2"])
    assert read_bytes(tmp_path / "less") == read_bytes(tmp_path / "fresh")
    mdm_kit.merge(recipe(family, method, ["m1", "m2"]), tmp_path / "two")
    if not EACH[method] or EACH[method] == "weight: 0.5":
        weight = 0.5 if EACH[method] else None
        new = mdm_kit.Addition(str(family / "m3"), weight=weight)
        more = mdm_kit.add(tmp_path / "two", tmp_path / "more", [new])
        assert more.shards == all_of_them.shards


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("model*"))}


def test_another_seed_draws_otherwise(family: Path, tmp_path: Path) -> None:
    text = recipe(family, "dare_linear", ["m1", "m2"])
    mdm_kit.merge(text, tmp_path / "a")
    mdm_kit.merge(text.replace("seed: 11", "seed: 12"), tmp_path / "b")
    a, b = read_model(tmp_path / "a"), read_model(tmp_path / "b")
    assert not torch.equal(a["model.layers.0.mlp.down.weight"], b["model.layers.0.mlp.down.weight"])


def test_a_slerp_keeps_no_deltas_and_takes_nothing_out(family: Path, tmp_path: Path) -> None:
    text = f"merge_method: slerp\nbase_model: {family}/base\nmodels: [{{model: {family}/m1}}]\n"
    text += "parameters: {t: 0.5}\n"
    with pytest.raises(mdm_kit.errors.RecipeError, match="slerp has none"):
        mdm_kit.plan(text + "ledger: {keep: deltas}\n")
    mdm_kit.merge(text, tmp_path / "out")
    with pytest.raises(mdm_kit.errors.UsageError):
        mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", drop=["m1"])


def test_the_plan_counts_what_a_rule_reads_again(family: Path) -> None:
    with mdm_kit.plan(recipe(family, "ties", ["m1", "m2"]), memory_nbytes=1) as plan:
        once = sum(s.nbytes for s in plan.sources)
        assert plan.costs.read_twice == 1
        assert plan.costs.read_nbytes > once
    with mdm_kit.plan(recipe(family, "ram", ["m1", "m2"]), memory_nbytes=1) as plan:
        assert plan.costs.read_twice == 0


def test_a_base_that_karcher_counts_is_not_dropped_in_vain(family: Path, tmp_path: Path) -> None:
    text = f"merge_method: karcher\nbase_model: {family}/base\nmodels:\n"
    text += "".join(f"  - {{model: {family}/{m}}}\n" for m in ("base", "m1", "m2"))
    mdm_kit.merge(text, tmp_path / "out")
    with pytest.raises(mdm_kit.errors.UsageError, match="counts as one of the models"):
        mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", drop=["base"])
