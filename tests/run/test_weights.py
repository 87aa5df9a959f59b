"""Weights that cancel or leave float32's range are folded in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import read_model, write_model
from reference import dense

import mdm_kit


def merge(root: Path, method: str, weights: tuple[float, ...], extra: str = "") -> torch.Tensor:
    models = "".join(
        f"  - {{model: {root}/m{i}, parameters: {{weight: {w!r}}}}}\n"
        for i, w in enumerate(weights)
    )
    mdm_kit.merge(f"merge_method: {method}\nmodels:\n{models}{extra}\n", root / "out")
    return read_model(root / "out")["w"]


@pytest.mark.parametrize("size", [30.0, 1e3, 1e4])
def test_opposite_weights_of_near_copies(tmp_path: Path, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(5000, generator=generator)
    common = base + 1e-3 * torch.randn(5000, generator=generator)
    models = [common, common + 1e-6 * torch.randn(5000, generator=generator)]
    write_model(tmp_path / "base", {"w": base})
    for i, m in enumerate(models):
        write_model(tmp_path / f"m{i}", {"w": m})
    got = merge(tmp_path, "task_arithmetic", (size, -size), f"base_model: {tmp_path}/base")
    want = dense.task_arithmetic(base, models, (size, -size))
    dense.assert_accurate(got, want, want - base.double(), base.double().abs())


def test_a_weight_beyond_float32(tmp_path: Path) -> None:
    write_model(tmp_path / "m0", {"w": torch.tensor([1e-38, -3e-38]).bfloat16()})
    got = merge(tmp_path, "linear", (1e39,), "parameters: {normalize: false}")
    want = (1e39 * torch.tensor([1e-38, -3e-38]).bfloat16().double()).bfloat16()
    assert torch.equal(got, want)


def test_a_sum_that_only_passes_through_infinity(tmp_path: Path) -> None:
    x = torch.tensor([3e38, -3e38]).bfloat16()
    for i in range(2):
        write_model(tmp_path / f"m{i}", {"w": x})
    assert torch.equal(merge(tmp_path, "linear", (2.0, -1.0)), x)


def test_a_weight_no_sum_can_hold_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m0", {"w": torch.zeros(1)})
    with pytest.raises(mdm_kit.errors.RecipeError, match="up to 1e"):
        merge(tmp_path, "linear", (1e308,))
