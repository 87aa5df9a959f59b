"""A merge is base + (w_1 d_1 + w_2 d_2 + ...), in this order, one rounding for each step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from families import Spec, read_model, tensors
from merged_families import (
    BLOCK,
    Model,
    manifest_of,
    recipe,
    triangles,
    write_models,
    write_related,
)
from reference.exact import bits, fold, nearest
from torch import Tensor

import mdm_kit

SPEC: Spec = {
    "a": ((70_001,), torch.float32),
    "b": ((3, BLOCK), torch.bfloat16),
    "c": ((2_049,), torch.float16),
    "d": ((), torch.float32),
    "e": ((0,), torch.float32),
}
NARROW, WIDE = False, True


def fused(base: Tensor, models: list[Tensor], weights: list[float]) -> Tensor:
    """What a fused multiply-add would give; float64 holds the exact product of two float32."""
    total = np.zeros(base.shape, np.float32)
    for m, w in zip(models, weights, strict=True):
        d = (m.float() - base.float()).numpy()
        total = (total.astype(np.float64) + d.astype(np.float64) * float(np.float32(w))).astype(
            np.float32
        )
    return torch.from_numpy((base.float().numpy() + total).astype(np.float64))


def weights_of(out: Path, name: str, alpha: tuple[float, ...]) -> list[float]:
    return manifest_of(out).tensors[name].weights or list(alpha)


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["task_arithmetic", "mdm_oc"])
def test_every_bit_follows_from_the_order_of_the_models(
    tmp_path: Path, method: str, out_dtype: torch.dtype
) -> None:
    base, models = write_related(tmp_path, "0.3", SPEC, n=4, size=1.0)
    alpha = (0.4, 0.3, 0.9, 0.1)
    name = str(out_dtype).removeprefix("torch.")
    mdm_kit.merge(recipe(tmp_path, alpha, "", f"out_dtype: {name}", method=method), tmp_path / "o")
    got = read_model(tmp_path / "o")
    for t, b in base.items():
        w = weights_of(tmp_path / "o", t, alpha)
        want = fold(b, [m[t] for m in models], w, wide=NARROW).numpy()
        assert bits(got[t]) == bits(nearest(want, out_dtype)), t
    w = weights_of(tmp_path / "o", "a", alpha)
    ours = fold(base["a"], [m["a"] for m in models], w, wide=NARROW)
    turned = fold(base["a"], [m["a"] for m in models[::-1]], w[::-1], wide=NARROW)
    assert not torch.equal(ours, fused(base["a"], [m["a"] for m in models], w))
    assert not torch.equal(ours, turned), "the order should show"


@pytest.mark.parametrize("out_dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_bit_of_a_wide_sum_too(tmp_path: Path, out_dtype: torch.dtype) -> None:
    base, models = write_related(tmp_path, "0.3", SPEC, n=4, size=1.0)
    name = str(out_dtype).removeprefix("torch.")
    extra = f"dtype: float64\nout_dtype: {name}"
    mdm_kit.merge(recipe(tmp_path, (0.4, 0.3, 0.9, -0.1), "", extra), tmp_path / "out")
    got = read_model(tmp_path / "out")
    for t, b in base.items():
        w = weights_of(tmp_path / "out", t, ())
        want = fold(b, [m[t] for m in models], w, wide=WIDE).numpy()
        assert bits(got[t]) == bits(nearest(want, out_dtype)), t


def opposed(root: Path, share: float) -> tuple[Model, list[Model]]:
    """Two deltas of which the second is all but `share` of the first."""
    base = tensors({"w": ((70_001,), torch.float32)}, 0)
    d = tensors({"w": ((70_001,), torch.float64)}, 1)["w"]
    models = [{"w": (base["w"] + s * d).float()} for s in (1.0, 1.0 - share)]
    write_models(root, base, models)
    return base, models


@pytest.mark.parametrize(("share", "wide"), [(1 / 8, NARROW), (1 / 9, WIDE), (1e-4, WIDE)])
@pytest.mark.parametrize("memory", [1, 2_000_000_000])
def test_a_sum_that_cancels_sixteenfold_is_wide(
    tmp_path: Path, share: float, wide: bool, memory: int
) -> None:
    """d_1 - d_2 with shares of 1/8 and 1/9: norms of 15 and 17 times what is left of them."""
    base, models = opposed(tmp_path, share)
    text = recipe(tmp_path, (1.0, -1.0), "orthogonalize: none")
    mdm_kit.merge(text, tmp_path / "out", memory_nbytes=memory)
    g11, g21, g22 = triangles(tmp_path / "out")["w"]
    ratio = (math.sqrt(g11) + math.sqrt(g22)) / math.sqrt(g11 - 2 * g21 + g22)
    assert (ratio > 16) == wide
    both = [m["w"] for m in models]
    sums = [fold(base["w"], both, (1.0, -1.0), wide=w).float() for w in (NARROW, WIDE)]
    assert not torch.equal(*sums)
    assert bits(read_model(tmp_path / "out")["w"]) == bits(sums[wide])


def test_the_norms_of_the_tensor_itself_decide(tmp_path: Path) -> None:
    """In a shared scope, a tensor whose sum cancels is wide beside one whose does not."""
    base, models = opposed(tmp_path / "unused", 1e-3)
    quiet = tensors({"v": ((BLOCK,), torch.float32)}, 3)["v"]
    for i, model in enumerate((base, *models)):
        model["v"] = quiet + (0, 300.0, -300.0)[i] * quiet
    write_models(tmp_path, base, models)
    text = recipe(tmp_path, (1.0, -1.0), "orthogonalize: none, scope: global")
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    for name, wide in (("w", WIDE), ("v", NARROW)):
        want = fold(base[name], [m[name] for m in models], (1.0, -1.0), wide=wide).float()
        assert bits(got[name]) == bits(want), name
