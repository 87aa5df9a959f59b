"""How a model leaves a merge: what verify says it takes is what it takes, neither more nor less."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from families import Spec
from merged_families import recipe, write_related

import mdm_kit
from mdm_kit.errors import SourceError

GOLDEN = Path(__file__).parents[1] / "ledger" / "golden" / "1"
OPCM = {"m1": ["base", "m2", "m3"], "m2": ["base", "m1", "m3"], "m3": ["base"]}
COVMERGE = {"m1": ["base", "m1"], "m2": ["base", "m2"], "m3": ["base", "m3"]}


def needed(folder: Path, mode: str) -> dict[str, list[str]]:
    found = mdm_kit.verify(folder)
    assert found.sound
    return {g.model: list(g.needs[mode]) for g in found.guarantees}  # type: ignore[index]


def assert_takes(merge: Path, models: Path, name: str, mode: str, needs: list[str]) -> None:
    """Take a model out with what it needs, and not with any of that missing."""
    out = merge.parent / f"without-{name}-{mode}"
    places = {n: str(models / n) for n in needs}
    for missing in needs:
        fewer = {n: place for n, place in places.items() if n != missing}
        with pytest.raises(SourceError, match=missing):
            mdm_kit.unmerge(merge, out, [name], mode=mode, sources=fewer)  # type: ignore[arg-type]
    mdm_kit.unmerge(merge, out, [name], mode=mode, sources=places)  # type: ignore[arg-type]
    assert mdm_kit.verify(out).sound


@pytest.mark.parametrize(
    ("method", "mode", "needs"),
    [
        ("opcm", "rebuild", OPCM),
        ("covmerge", "exact", COVMERGE),
        ("covmerge", "rebuild", {**OPCM, "m3": ["base", "m1", "m2"]}),
    ],
)
def test_sums_need_what_is_said(
    tmp_path: Path, method: str, mode: str, needs: dict[str, list[str]]
) -> None:
    shutil.copytree(GOLDEN / "sums" / method, tmp_path / "merge")
    assert needed(tmp_path / "merge", mode) == needs
    for name in ("m1", "m3"):
        assert_takes(tmp_path / "merge", GOLDEN / "sums", name, mode, needs[name])


def test_after_a_step_back_the_next_takes_the_models(tmp_path: Path) -> None:
    found = mdm_kit.verify(GOLDEN / "sums" / "opcm-less")
    assert {g.model: list(g.needs["rebuild"]) for g in found.guarantees} == {
        "m1": ["base", "m2"],
        "m2": ["base", "m1"],
    }


def test_deltas_need_what_is_said(tmp_path: Path) -> None:
    spec: Spec = {"model.layers.0.a": ((7, 3), torch.float32)}
    write_related(tmp_path, "0.3", spec, n=3)
    mdm_kit.merge(recipe(tmp_path, (1.0, 0.7, -0.4)), tmp_path / "merge")
    (tmp_path / "merge" / ".mdm_local.json").unlink()
    assert needed(tmp_path / "merge", "rebuild")["m1"] == ["base", "m2", "m3"]
    exact = needed(tmp_path / "merge", "exact")
    assert exact["m3"][-1] == "m3"
    subtract = needed(tmp_path / "merge", "subtract")
    assert subtract["m3"] == ["base", "m1", "m2"]
    for mode, needs in (("exact", exact), ("subtract", subtract)):
        for name in ("m1", "m3"):
            assert_takes(tmp_path / "merge", tmp_path, name, mode, needs[name])


@pytest.mark.parametrize("mode", ["rebuild", "exact", "subtract"])
def test_what_is_kept_need_not_be_had(mode: str) -> None:
    assert set(map(tuple, needed(GOLDEN / "merged", mode).values())) == {("base",)}
