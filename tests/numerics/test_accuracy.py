"""Every merge is as near to the exact one as is promised, whatever the angle between the models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import read_model
from merged_families import (
    KINDS,
    Model,
    floating,
    manifest_of,
    recipe,
    triangles,
    write_related,
)
from reference import dense
from reference.orthogonal_merge import mdm_oc
from torch import Tensor

import mdm_kit

ALPHA = (1.0, 0.7, -0.4)
SCOPES = ("tensor", "layer", "global")
HOWS = ("gram_schmidt", "lowdin", "none")


@pytest.fixture(scope="module", params=KINDS)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Model, list[Model]]:
    root = tmp_path_factory.mktemp("family")
    return root, *write_related(root, request.param)


def spread(base: Tensor, models: list[Tensor], weights: list[float]) -> Tensor:
    """Σ|w_i x_i|, the base included: what the terms of a sum amount to before they cancel."""
    deltas = [(m.double() - base.double()).abs() for m in models]
    return base.double().abs() + sum(abs(w) * d for w, d in zip(weights, deltas, strict=True))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_merge_is_within_its_accuracy(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, scope: str, how: str
) -> None:
    """Each tensor in the dtype of its base: float32, bfloat16, float16, float64."""
    root, base, models = family
    text = recipe(root, ALPHA, f"scope: {scope}, orthogonalize: {how}")
    mdm_kit.merge(text, tmp_path / "out")
    got, entries = read_model(tmp_path / "out"), manifest_of(tmp_path / "out").tensors
    want = mdm_oc(base, models, dict.fromkeys(base, ALPHA), scope=scope, how=how)
    for name in floating(base):
        weights = entries[name].weights
        assert weights is not None
        terms = spread(base[name], [m[name] for m in models], weights)
        assert got[name].dtype == base[name].dtype
        dense.assert_accurate(got[name], want[name], want[name] - base[name].double(), terms)


@pytest.mark.parametrize("how", HOWS)
def test_a_merge_into_bfloat16_is_within_one_step(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, how: str
) -> None:
    root, base, models = family
    text = recipe(root, ALPHA, f"scope: layer, orthogonalize: {how}", "out_dtype: bfloat16")
    mdm_kit.merge(text, tmp_path / "out")
    got, entries = read_model(tmp_path / "out"), manifest_of(tmp_path / "out").tensors
    want = mdm_oc(base, models, dict.fromkeys(base, ALPHA), scope="layer", how=how)
    for name in floating(base):
        weights = entries[name].weights
        assert weights is not None
        terms = spread(base[name], [m[name] for m in models], weights)
        dense.assert_accurate(got[name], want[name], want[name] - base[name].double(), terms)
        if got[name].numel() > 1000:
            exact = got[name].eq(want[name].to(torch.bfloat16)).double().mean()
            assert exact > 0.98, "a step off is for values at a middle, not for many"


def test_the_families_are_what_they_are_called(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root, _, _ = family
    kind = request.node.callspec.params["family"]
    mdm_kit.merge(recipe(root, ALPHA), tmp_path / "out")
    group = manifest_of(tmp_path / "out").groups["model.layers.1.mlp.weight"]
    if kind in ("copy", "zero"):
        assert group.dependent == ["m3" if kind == "copy" else "m2"]
    else:
        g11, g21, g22, *_ = triangles(tmp_path / "out")["model.layers.1.mlp.weight"]
        assert group.dependent == []
        assert abs(1 - g21 / (g11 * g22) ** 0.5 - (1 - float(kind))) <= 0.02 * (1 - float(kind))
