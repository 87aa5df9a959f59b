"""Merges that join all changes to a map at once: same bytes, growth by rebuild, faults, reading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from continual import shards, write_growing
from families import read_model
from far_models import far
from fused_maps import MODELS, recipe, write_fused
from joint import WEIGHTS, has_weights, joint_recipe
from map_memory import LIBRARIES, memory_of, write
from merged_families import manifest_of
from safetensors.torch import save_file
from staged import content, filled, one_by_one

import mdm_kit
from mdm_kit import Addition
from mdm_kit.errors import NotFiniteError, RecipeError, UsageError
from mdm_kit.planner.maps import map_rule, merged_nbytes


def save(folder: Path, model: dict[str, torch.Tensor]) -> None:
    """Put other weights into a model's folder."""
    save_file(model, folder / "model.safetensors", metadata={"format": "pt"})


METHODS = ("iso_c", "iso_cts", "knots", "nullspace", "svc", "tsv_m")


@pytest.mark.parametrize("kind", ["llama", "odd"])
@pytest.mark.parametrize("method", METHODS)
def test_models_join_and_leave_by_rebuild(tmp_path: Path, method: str, kind: str) -> None:
    """By one worker or two, with memory or without, to the bytes of one merge of the rest."""
    write_growing(tmp_path, kind, 3)
    for numbers, name in (((1, 2), "two"), ((1, 2, 3), "three")):
        text = joint_recipe(tmp_path, method, numbers, "lambda: [0.8, 1.1]")
        mdm_kit.merge(text, tmp_path / name, threads=1)
        mdm_kit.merge(text, tmp_path / f"{name}-again", threads=2, memory_nbytes=1)
        assert shards(tmp_path / f"{name}-again") == shards(tmp_path / name)
    weight = WEIGHTS[3] if has_weights(method) else None
    new = Addition(str(tmp_path / "m3"), weight=weight)
    mdm_kit.add(tmp_path / "two", tmp_path / "added", [new])
    assert shards(tmp_path / "added") == shards(tmp_path / "three")
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "left", ["m3"])
    assert shards(tmp_path / "left") == shards(tmp_path / "two")
    assert mdm_kit.verify(tmp_path / "left").sound
    manifest = manifest_of(tmp_path / "three")
    assert manifest.undo == ["rebuild"]
    assert manifest.sums is None
    with pytest.raises(UsageError, match="is no sum of deltas"):
        mdm_kit.unmerge(tmp_path / "three", tmp_path / "exact", ["m3"], mode="exact")


@pytest.mark.parametrize("name", ["mlp.up_proj.weight", "mlp.down_proj.weight"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_names_tensor_and_model(tmp_path: Path, method: str, name: str) -> None:
    models = write_growing(tmp_path, "llama", 3)
    name = f"model.layers.0.{name}"
    models[2][name][3, 5] = torch.inf
    save(tmp_path / "m2", models[2])
    at = 3 * models[2][name].shape[1] + 5
    with pytest.raises(NotFiniteError, match=rf"{name}: element {at} of m2 is inf"):
        mdm_kit.merge(joint_recipe(tmp_path, method, [1, 2, 3]), tmp_path / "out")


@pytest.mark.parametrize("memory_nbytes", [2_000_000_000, 1])
@pytest.mark.parametrize("method", METHODS)
def test_the_plan_counts_every_reading(tmp_path: Path, method: str, memory_nbytes: int) -> None:
    """Far models are fetched as often as it says: once where memory holds them meanwhile."""
    root = write_fused(tmp_path, 96, 48)
    text = recipe(root, method, "", "references")
    near = mdm_kit.merge(text, tmp_path / "near", threads=2, memory_nbytes=memory_nbytes)
    models = far({name: root / name for name in MODELS})
    with mdm_kit.plan(text, memory_nbytes=memory_nbytes, threads=2, sources=models) as plan:
        announced = plan.costs.download_nbytes
        rules = [rule for w in plan.writes if (rule := map_rule(w))]
        assert plan.costs.passes == rules[0].passes  # type: ignore[union-attr]
        assert plan.costs.maps == 17
        assert plan.costs.memory_nbytes > max(map(merged_nbytes, plan.writes)) > 0
        assert {w.apply().matrices is None for w in plan.writes} == {True, False}
    out = tmp_path / "far"
    made = mdm_kit.merge(text, out, threads=2, memory_nbytes=memory_nbytes, sources=models)
    assert made.shards == near.shards
    assert not [lapse for m in models.values() for lapse in m.unannounced]
    assert sum(m.left_over for m in models.values()) == 0
    found = sum(m.nbytes_fetched for m in models.values())
    assert found <= announced
    if memory_nbytes > 1:
        assert found == announced


def test_a_joint_method_has_no_sums_to_keep(tmp_path: Path) -> None:
    write_growing(tmp_path, "llama", 2)
    text = joint_recipe(tmp_path, METHODS[0], [1, 2], more="ledger: {keep: state}")
    with pytest.raises(RecipeError, match="has none"):
        mdm_kit.merge(text, tmp_path / "out")


@pytest.mark.real
@pytest.mark.parametrize("method", METHODS)
def test_memory_is_what_the_plan_says(tmp_path: Path, method: str) -> None:
    write(tmp_path, (2048, 1024), 3, 3, torch.bfloat16)
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(joint_recipe(tmp_path, method, [1, 2, 3]))
    with mdm_kit.plan(recipe, threads=1) as plan:
        planned = plan.costs.memory_nbytes
    assert planned / 2 < memory_of(recipe, tmp_path / "out") < planned * 1.3 + LIBRARIES


@pytest.mark.parametrize("method", METHODS)
def test_bits_do_not_depend_on_threads_of_the_libraries(tmp_path: Path, method: str) -> None:
    """Eigenvectors of more than 64 columns would, where a worker had two; float64 shows it."""
    write(tmp_path, (300, 200), 2, 3, torch.float32)
    text = joint_recipe(tmp_path, method, [1, 2, 3], more="out_dtype: float64")
    before = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            mdm_kit.merge(text, tmp_path / f"out{n}", threads=n)
    finally:
        torch.set_num_threads(before)
    assert shards(tmp_path / "out1") == shards(tmp_path / "out2")


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_not_every_model_has_is_merged_of_the_others(tmp_path: Path, method: str) -> None:
    """A linear map and a norm, whose mean is that of two."""
    models = write_growing(tmp_path, "llama", 3)
    gone = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
    kept = {n: t for n, t in models[2].items() if n not in gone}
    save(tmp_path / "m2", kept)
    text = joint_recipe(tmp_path, method, [1, 2, 3], more="on_mismatch: skip")
    mdm_kit.merge(text, tmp_path / "out")
    mdm_kit.merge(joint_recipe(tmp_path, method, [1, 3]), tmp_path / "two")
    mdm_kit.merge(
        joint_recipe(tmp_path, method, [1, 2, 3], more="on_mismatch: base"), tmp_path / "b"
    )
    got, two, rest = (read_model(tmp_path / name) for name in ("out", "two", "b"))
    for name, tensor in got.items():
        assert torch.equal(tensor, (two if name in gone else rest)[name]), name


IN_STAGES = """name: merged
merge_method: {method}
base_model: BASE
models:
- model: M1
  parameters: {{weight: 0.7}}
- model: M2
  parameters: {{weight: 1.3}}
- model: M3
  parameters: {{weight: 0.4}}
dtype: float32
---
merge_method: svc
base_model: BASE
models:
- model: merged
- model: M1
- model: M2
- model: M3
dtype: float32
"""


@pytest.mark.parametrize("method", ["task_arithmetic", "tsv_m"])
def test_a_merge_is_calibrated_in_the_document_behind_it(tmp_path: Path, method: str) -> None:
    """One made as it is read, one that is written before; without a model, as without it at all."""
    write_growing(tmp_path, "odd", 3)
    text = filled(tmp_path, IN_STAGES.format(method=method))
    mdm_kit.merge(text, tmp_path / "out", threads=2)
    apart = one_by_one(text, tmp_path / "apart", threads=1)
    assert content(tmp_path / "out") == content(apart)
    lines = f"- model: {tmp_path}/m2\n"
    without = text.replace(f"{lines}  parameters: {{weight: 1.3}}\n", "").replace(lines, "")
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "left", ["m2"])
    mdm_kit.merge(without, tmp_path / "never")
    assert content(tmp_path / "left") == content(tmp_path / "never")
