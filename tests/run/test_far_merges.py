"""Merges of far models: the same bytes, all announced, nothing fetched twice without need."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import ODD, Spec, write_family
from far_models import FarFolder, far

import mdm_kit

MODELS = ("m1", "m2", "m3")
LARGE: Spec = {
    **ODD,
    "model.layers.0.mlp.down.weight": ((300, 701), torch.bfloat16),
    "model.layers.1.mlp.down.weight": ((1100, 1024), torch.bfloat16),
}
"""One tensor of several blocks and one of more than one tile among the odd ones."""

METHODS = {
    "linear": "weight: 0.5",
    "task_arithmetic": "weight: 0.5",
    "mdm_oc": "weight: 0.5",
    "mdm_oc global": "weight: 0.5",
    "ties": "weight: 0.5, density: 0.4",
    "della": "weight: 0.5, density: 0.4",
    "sce": "",
    "breadcrumbs": "weight: 0.5, density: 0.6, gamma: 0.1",
    "model_stock": "",
    "nuslerp columns": "weight: 0.5",
    "ram": "",
}
SHARED = {
    "mdm_oc global": "scope: global",
    "sce": "select_topk: 0.3",
    "nuslerp columns": "nuslerp_row_wise: false, nuslerp_flatten: false",
}


def recipe(root: Path, case: str) -> str:
    own = f", parameters: {{{METHODS[case]}}}" if METHODS[case] else ""
    models = MODELS[:2] if case.startswith("nuslerp") else MODELS
    return "\n".join(
        [
            f"merge_method: {case.partition(' ')[0]}",
            f"base_model: {root}/base",
            f"parameters: {{{SHARED.get(case, '')}}}",
            "models:",
            *(f"  - {{model: {root}/{m}{own}}}" for m in models),
        ]
    )


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("far")
    write_family(root, LARGE, n=3)
    return root


@pytest.mark.parametrize("memory_nbytes", [2_000_000_000, 4_000_000, 1])
@pytest.mark.parametrize("case", METHODS)
def test_far_models_give_the_bytes_of_near_ones(
    family: Path, tmp_path: Path, case: str, memory_nbytes: int
) -> None:
    text = recipe(family, case)
    near = mdm_kit.merge(text, tmp_path / "near", threads=2, memory_nbytes=memory_nbytes)
    models = far({name: family / name for name in ("base", *MODELS)})
    with mdm_kit.plan(text, memory_nbytes=memory_nbytes, threads=2, sources=models) as plan:
        announced = plan.costs.download_nbytes
    out = tmp_path / "far"
    merged = mdm_kit.merge(text, out, threads=2, memory_nbytes=memory_nbytes, sources=models)
    assert merged.shards == near.shards
    assert not [lapse for m in models.values() for lapse in m.unannounced]
    assert sum(m.left_over for m in models.values()) == 0
    fetched = sum(m.nbytes_fetched for m in models.values())
    assert 0 < fetched <= announced
    if memory_nbytes > 1_000_000_000 and case != "mdm_oc global":
        needed = sum(t.nbytes for m in models.values() for t in m.headers().tensors.values())
        assert fetched <= needed


@pytest.fixture(scope="module")
def wide_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return models whose neighbouring tensors are too large to be held beside one another."""
    root = tmp_path_factory.mktemp("wide")
    rows = (3000, 3000, 400, 3000)
    names = [f"model.layers.{i}.mlp.down.weight" for i in range(len(rows))]
    shapes = [((n, 1024), torch.bfloat16) for n in rows]
    write_family(root, dict(zip(names, shapes, strict=True)), n=3)
    return root


@pytest.mark.parametrize("memory_nbytes", [100_000_000, 40_000_000, 16_000_000])
@pytest.mark.parametrize("case", ["mdm_oc", "ties", "model_stock", "nuslerp columns"])
def test_what_is_read_again_is_fetched_no_oftener_than_announced(
    wide_family: Path, tmp_path: Path, case: str, memory_nbytes: int
) -> None:
    models = far({name: wide_family / name for name in ("base", *MODELS)})
    text = recipe(wide_family, case)
    with mdm_kit.plan(text, memory_nbytes=memory_nbytes, threads=2, sources=models) as plan:
        announced = plan.costs.download_nbytes
        needed = sum(r.info.nbytes for w in plan.writes for r in w.reads())
    mdm_kit.merge(text, tmp_path / "out", threads=2, memory_nbytes=memory_nbytes, sources=models)
    assert needed <= sum(m.nbytes_fetched for m in models.values()) <= announced
    if memory_nbytes == 100_000_000:
        assert announced == needed


def test_few_requests(family: Path, tmp_path: Path) -> None:
    models = far({name: family / name for name in ("base", *MODELS)})
    mdm_kit.merge(recipe(family, "linear"), tmp_path / "out", sources=models)
    requests = [span for m in models.values() for f in m.far_files.values() for span in f.fetched]
    assert len(requests) <= 2 * len([f for m in models.values() for f in m.far_files])


def test_kept_models_are_coded_from_afar(family: Path, tmp_path: Path) -> None:
    text = recipe(family, "mdm_oc") + "\nledger: {keep: deltas+base}\n"
    mdm_kit.merge(text, tmp_path / "near")
    models = far({name: family / name for name in ("base", *MODELS)})
    mdm_kit.merge(text, tmp_path / "far", sources=models)
    for path in sorted((tmp_path / "near" / "deltas").iterdir()):
        assert (tmp_path / "far" / "deltas" / path.name).read_bytes() == path.read_bytes()
    headers = [0]  # are read again, to be kept as they are
    assert {lapse[1] for m in models.values() for lapse in m.unannounced} == set(headers)
    assert sum(m.left_over for m in models.values()) == 0


def test_kept_models_are_decoded_against_a_far_base(family: Path, tmp_path: Path) -> None:
    text = recipe(family, "mdm_oc") + "\nledger: {keep: deltas}\n"
    mdm_kit.merge(text, tmp_path / "all")
    near = mdm_kit.unmerge(tmp_path / "all", tmp_path / "near", ["m2"])
    moved = family.rename(tmp_path / "elsewhere")
    try:
        base = FarFolder("base", moved / "base")
        again = mdm_kit.unmerge(
            tmp_path / "all", tmp_path / "again", ["m2"], sources={"base": base}
        )
    finally:
        moved.rename(family)
    assert again.shards == near.shards
    assert base.left_over == 0


def test_differences_from_afar(family: Path, tmp_path: Path) -> None:
    near = mdm_kit.diff(family / "base", family / "m1")
    models = [FarFolder(name, family / n) for name, n in (("A", "base"), ("B", "m1"))]
    assert mdm_kit.diff(models[0], models[1]).tensors == near.tensors
    assert sum(m.left_over for m in models) == 0
    assert not [lapse for m in models for lapse in m.unannounced]
