"""Recipes of several stages: the bytes are those of the stages merged one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import write_family
from staged import content, filled, one_by_one

import mdm_kit

LINEAR = """\
name: first
merge_method: linear
models: [{model: M1}, {model: M2, parameters: {weight: 0.3}}]
parameters: {weight: 0.5}
dtype: bfloat16
---
"""
TIES = """\
name: first
merge_method: ties
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {weight: 0.5, density: 0.4}
---
"""
MDM_OC = """\
name: first
merge_method: mdm_oc
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {weight: 0.5, scope: tensor}
---
"""
OPCM = """\
name: first
merge_method: opcm
base_model: BASE
models: [{model: M1}, {model: M2}]
---
"""
SLERP = """\
merge_method: slerp
base_model: first
models: [{model: first}, {model: M3}]
parameters: {t: 0.25}
"""
AVERAGE = """\
merge_method: linear
models: [{model: first}, {model: M3}]
parameters: {weight: [0.2, 0.7]}
"""


def last(stage: str) -> str:
    """Return a stage as the last document, on the result of `first`."""
    return stage.replace("name: first\n", "").replace("M1", "first").removesuffix("---\n")


def after(stage: str, name: str) -> str:
    """Return a stage under another name, on the result of `first`."""
    return stage.replace("M1", "FIRST").replace("first", name).replace("FIRST", "first")


RECIPES = {
    "linear, ties": (LINEAR + last(TIES), ["streams"]),
    "ties, slerp": (TIES + SLERP, ["streams"]),
    "draws, draws": (
        TIES.replace("ties", "della\nseed: 3") + last(TIES.replace("ties", "dare_ties")),
        ["streams"],
    ),
    "task_arithmetic in bfloat16, linear": (
        TIES.replace("ties", "task_arithmetic\ndtype: bfloat16").replace(", density: 0.4", "")
        + AVERAGE,
        ["streams"],
    ),
    "float16 by out_dtype, float32": (
        LINEAR.replace("bfloat16", "float32\nout_dtype: float16") + AVERAGE + "dtype: float32\n",
        ["streams"],
    ),
    "mdm_oc tensor, linear": (MDM_OC + AVERAGE, ["streams"]),
    "mdm_oc global, linear": (MDM_OC.replace("tensor", "global") + AVERAGE, ["disk"]),
    "linear, mdm_oc global": (LINEAR + last(MDM_OC.replace("tensor", "global")), ["streams"]),
    "opcm, slerp": (OPCM + SLERP, ["disk"]),
    "two feed a third": (
        LINEAR
        + TIES.replace("first", "second")
        + "merge_method: nuslerp\nmodels: [{model: first}, {model: second}]\n"
        "parameters: {weight: 0.5}\n",
        ["streams", "streams"],
    ),
    "three in a row, and across disk": (
        LINEAR
        + after(OPCM, "second")
        + after(TIES, "third").replace("model: first", "model: second")
        + SLERP.replace("first", "third"),
        ["streams", "disk", "streams"],
    ),
    "one that two read": (
        LINEAR
        + after(TIES, "second")
        + "merge_method: linear\nmodels: [{model: first}, {model: second}]\n"
        "parameters: {weight: 0.5}\n",
        ["streams", "streams"],
    ),
    "slices of a stage": (
        LINEAR
        + """\
merge_method: passthrough
slices:
  - sources: [{model: first, layer_range: [0, 2]}]
  - sources: [{model: M3, layer_range: [1, 3]}]
  - sources: [{model: first, layer_range: [1, 3]}]
""",
        ["streams"],
    ),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("staged")
    write_family(root, n=3, n_shards=2)
    return root


@pytest.mark.parametrize(("recipe", "ways"), RECIPES.values(), ids=RECIPES)
def test_the_bytes_are_those_of_one_by_one(
    family: Path, tmp_path: Path, recipe: str, ways: list[str]
) -> None:
    text = filled(family, recipe)
    with mdm_kit.plan(text, shard_nbytes=2000) as plan:
        assert [("streams" if s.streams else "disk") for s in plan.stages] == ways
        assert not plan.exit_code, plan.report()
    mdm_kit.merge(text, tmp_path / "out", shard_nbytes=2000, threads=3)
    wanted = content(one_by_one(text, tmp_path / "each", shard_nbytes=2000))
    assert content(tmp_path / "out") == wanted
    assert len(wanted) > 2
    assert not list(tmp_path.glob(".*"))
    found = mdm_kit.verify(tmp_path / "out", deep=True)
    assert found.sound, found.faults
