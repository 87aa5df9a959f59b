"""Merges as sums, made from folders, beside dense float64: every kind of map, dtype and setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import odd_maps
import pytest
import torch
from continual import growing_recipe
from families import read_model
from merged_families import manifest_of
from odd_maps import MAPS, UNTIED, place
from reference.covmerge import covmerge
from reference.dense import step
from reference.opcm import Summed, summed
from safetensors.torch import load_file
from torch import Tensor

import mdm_kit
from mdm_kit.ledger.entries import SumsEntry

SHARP = "out_dtype: float64"
SIZES = {"F64": 0.05, "F32": 0.05, "BF16": 0.3, "F16": 0.3, "mixed": 0.3}
"""How far models go: further where coarse storage would bury small singular values."""


def merged(root: Path, text: str) -> tuple[dict[str, Tensor], SumsEntry]:
    mdm_kit.merge(text, root / "out")
    sums = manifest_of(root / "out").sums
    assert sums is not None
    return read_model(root / "out"), sums


def assert_near(got: Tensor, want: Tensor, base: Tensor, name: str) -> None:
    """‖got - want‖ ≤ 1e-5 ‖Δ‖ plus half a unit in the last place of each element."""
    change = torch.linalg.vector_norm(want - base.double())
    rounding = torch.linalg.vector_norm(0.5 * step(want, got.dtype))
    error = torch.linalg.vector_norm(got.double() - want)
    assert error <= 1e-5 * change + rounding, (name, float(error / change))


def judged(sums: SumsEntry, name: str) -> bool:
    """Whether every singular value that counts lies well above the tolerance."""
    margin = sums.tensors[name].margin
    return margin is None or margin >= 10


def check_opcm(
    models: Sequence[dict[str, Tensor]],
    got: dict[str, Tensor],
    sums: SumsEntry,
    want: Summed,
    factors: dict[str, float],
) -> None:
    base, last = models[0], want.sums[-1]
    n_judged = 0
    for name, t in base.items():
        if judged(sums, name):
            n_judged += name in MAPS
            assert_near(got[name], t.double() + factors[name] * last[name], t, name)
            entry = sums.tensors[name]
            assert entry.ranks == want.ranks.get(name, []), name
            assert entry.energies == pytest.approx(want.energies[name], rel=1e-6)
            assert entry.kept == pytest.approx(want.kept[name], rel=1e-5)
    assert n_judged >= 6


def counting(base: dict[str, Tensor], *, tied: bool) -> list[str]:
    return [n for n in base if not (tied and n == "lm_head.weight")]


@pytest.mark.parametrize("variant", ["reference", "legacy", "paper"])
@pytest.mark.parametrize(("n", "alpha"), [(2, 0.2), (3, 0.5), (8, 0.8), (3, 1.0)])
def test_opcm_by_variant_and_alpha(tmp_path: Path, n: int, alpha: float, variant: str) -> None:
    models = odd_maps.write(tmp_path, "F32", n)
    settings = f"alpha: {alpha}, variant: {variant}"
    text = growing_recipe(
        tmp_path, "opcm", range(1, n + 1), settings, keep="references", more=SHARP
    )
    got, sums = merged(tmp_path, text)
    want = summed(models[0], models[1:], MAPS, alpha=alpha, variant=variant, tail_tol=None)
    counted = counting(models[0], tied=True)
    scale = want.scale(counted)
    assert sums.scale == pytest.approx(scale, rel=1e-5)
    norms = [math.sqrt(sum(want.energies[x][t] for x in counted)) for t in range(n)]
    assert sums.norms == pytest.approx(norms, rel=1e-6)
    lambdas = [1 / want.scale(counted, t + 1) for t in range(n)]
    assert sums.lambdas == pytest.approx(lambdas, rel=1e-5)
    check_opcm(models, got, sums, want, dict.fromkeys(models[0], scale))


@pytest.mark.parametrize("kind", SIZES)
def test_opcm_by_dtype(tmp_path: Path, kind: str) -> None:
    """With an untied head, which is projected and counts; factors by layer."""
    models = odd_maps.write(tmp_path, kind, 3, SIZES[kind], tied=False)
    settings = "lambda: [0.5, 1.2, 0.9], alpha: 0.4"
    text = growing_recipe(tmp_path, "opcm", [1, 2, 3], settings, keep="references", more=SHARP)
    got, sums = merged(tmp_path, text)
    want = summed(models[0], models[1:], UNTIED, alpha=0.4, tail_tol=None)
    scale = want.scale(models[0])
    factors = {
        n: scale * float(np.interp(place(n), [0, 0.5, 1], [0.5, 1.2, 0.9])) for n in models[0]
    }
    check_opcm(models, got, sums, want, factors)


@pytest.mark.parametrize("settings", ["scale: 0.7", "scale_scope: tensor", "scale: 1, lambda: 0.5"])
def test_opcm_by_scale(tmp_path: Path, settings: str) -> None:
    models = odd_maps.write(tmp_path, "mixed", 4, 0.3)
    settings += ", tail_tol: 0.0001"
    text = growing_recipe(tmp_path, "opcm", [3, 1, 4], settings, keep="references", more=SHARP)
    got, sums = merged(tmp_path, text)
    want = summed(models[0], [models[i] for i in (3, 1, 4)], MAPS, alpha=0.5, tail_tol=1e-4)
    for name in models[0]:
        own = want.scale([name]) if bool(want.sums[-1][name].any()) else 0.0
        factor = own if "tensor" in settings else 0.7 if "0.7" in settings else 0.5
        want_tensor = models[0][name].double() + factor * want.sums[-1][name]
        assert judged(sums, name) or name == odd_maps.LOW_RANK
        if judged(sums, name):
            assert_near(got[name], want_tensor, models[0][name], name)


@pytest.mark.parametrize("dtype", ["", "out_dtype: bfloat16", "dtype: float64"])
def test_opcm_in_the_dtype_of_the_output(tmp_path: Path, dtype: str) -> None:
    models = odd_maps.write(tmp_path, "mixed", 3, 0.3)
    text = growing_recipe(tmp_path, "opcm", [1, 2, 3], keep="references", more=dtype)
    got, sums = merged(tmp_path, text)
    want = summed(models[0], models[1:], MAPS, alpha=0.5, tail_tol=None)
    scale = want.scale(counting(models[0], tied=True))
    for name, t in models[0].items():
        assert got[name].dtype == {"": t.dtype, "dtype: float64": torch.float64}.get(
            dtype, torch.bfloat16
        )
        if judged(sums, name):
            slack = 2**-22 * (t.double().abs() + scale * want.sums[-1][name].abs())
            wanted = t.double() + scale * want.sums[-1][name]
            error = (got[name].double() - wanted).abs()
            near = 1e-5 * torch.linalg.vector_norm(wanted - t.double())
            assert bool((error <= 0.5 * step(wanted, got[name].dtype) + slack + near).all()), name


def test_patterns_choose_what_is_projected(tmp_path: Path) -> None:
    """A name's part and a glob; a kernel is one map; a tied head may be asked for."""
    models = odd_maps.write(tmp_path, "F32", 3)
    settings = "project: [conv, '*.0.self_attn.*', lm_head.weight], scale: 1"
    text = growing_recipe(tmp_path, "opcm", [1, 2, 3], settings, keep="references", more=SHARP)
    got, sums = merged(tmp_path, text)
    maps = {n: v for n, v in UNTIED.items() if ".0.self_attn." in n or n == "lm_head.weight"}
    maps["side.conv.weight"] = odd_maps.kernel
    want = summed(models[0], models[1:], maps, alpha=0.5, tail_tol=None)
    assert {n for n, t in sums.tensors.items() if t.ranks} == set(maps)
    for name, t in models[0].items():
        assert_near(got[name], t.double() + want.sums[-1][name], t, name)


@pytest.mark.parametrize("variant", ["reference", "paper"])
def test_what_joins_is_orthogonal_to_what_is_there(tmp_path: Path, variant: str) -> None:
    """Read off the kept sums of successive merges; in float32, as they are kept."""
    odd_maps.write(tmp_path, "F32", 3)
    states: list[dict[str, Tensor]] = []
    for n in (1, 2, 3):
        out = tmp_path / f"out{n}"
        settings = f"variant: {variant}"
        mdm_kit.merge(growing_recipe(tmp_path, "opcm", range(1, n + 1), settings), out)
        states.append(load_file(out / "deltas" / "state-00001.safetensors"))
    for before, after in itertools.pairwise(states):
        for name, views in MAPS.items():
            s, now = before[f"sum:{name}"], after[f"sum:{name}"]
            assert torch.equal(after[f"before:{name}"], s)
            for old, new in zip(views(s.double()), views(now.double()), strict=True):
                added = new - old
                size = float(added.norm() * old.norm())
                assert abs(float((added * old).sum())) <= 1e-6 * size, name


@pytest.mark.parametrize("kind", ["F32", "F64"])
def test_a_merge_is_as_far_from_its_base_as_its_models_on_average(
    tmp_path: Path, kind: str
) -> None:
    models = odd_maps.write(tmp_path, kind, 4)
    text = growing_recipe(
        tmp_path, "opcm", [1, 2, 3, 4], keep="references", more="out_dtype: float32"
    )
    got, sums = merged(tmp_path, text)
    counted = counting(models[0], tied=True)

    def distance(model: dict[str, Tensor]) -> float:
        apart = [(model[n].double() - models[0][n].double()).flatten() for n in counted]
        return float(torch.cat(apart).norm())

    norms = [distance(m) for m in models[1:]]
    assert distance(got) == pytest.approx(sum(norms) / 4, rel=1e-6)
    assert sums.norms == pytest.approx(norms, rel=1e-6)


WEIGHTS = {1: 1.0, 2: 0.7, 3: 1.3, 4: 0.5}


def covmerged(
    models: Sequence[dict[str, Tensor]], maps: odd_maps.Maps, ridge: float, other: float
) -> dict[str, Tensor]:
    """The merged changes."""
    weights = [WEIGHTS[i] for i in range(1, len(models))]
    found = {}
    for name, t in models[0].items():
        deltas = [m[name].double() - t.double() for m in models[1:]]
        total = sum((w * d for w, d in zip(weights, deltas, strict=True)), torch.zeros(()).double())
        change = other * total
        for i, part in enumerate(maps[name](change) if name in maps else ()):
            own = [maps[name](d)[i].numpy() for d in deltas]
            if any(d.any() for d in own):
                part.copy_(torch.from_numpy(covmerge(own, weights, ridge)))
        found[name] = change
    return found


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("ridge", [0, 0.1, 1])
def test_covmerge_by_dtype_and_ridge(tmp_path: Path, kind: str, ridge: float) -> None:
    models = odd_maps.write(tmp_path, kind, 4, SIZES[kind], tied=kind != "F32")
    settings = f"ridge: {ridge}, other: 0.6, lambda: [0.5, 1.2, 0.9]"
    text = growing_recipe(tmp_path, "covmerge", [1, 2, 3, 4], settings, keep="none", more=SHARP)
    got, sums = merged(tmp_path, text)
    want = covmerged(models, UNTIED if kind == "F32" else MAPS, ridge, 0.6)
    for name, t in models[0].items():
        if name == odd_maps.LOW_RANK and ridge == 0 and kind == "F32":
            continue  # directions of rounding alone lie about where eigenvalues count as zero
        factor = float(np.interp(place(name), [0, 0.5, 1], [0.5, 1.2, 0.9]))
        assert_near(got[name], t.double() + factor * want[name], t, name)
        deltas = [m[name].double() - t.double() for m in models[1:]]
        energies = [float(d.square().sum()) for d in deltas]
        assert sums.tensors[name].energies == pytest.approx(energies, rel=1e-6)


def test_covmerge_of_what_patterns_choose(tmp_path: Path) -> None:
    models = odd_maps.write(tmp_path, "BF16", 2, 0.3)
    settings = "project: [conv, '*.0.self_attn.*'], other: 1.0"
    text = growing_recipe(tmp_path, "covmerge", [1, 2], settings, keep="none", more=SHARP)
    got, _ = merged(tmp_path, text)
    maps = {n: v for n, v in MAPS.items() if ".0.self_attn." in n}
    maps["side.conv.weight"] = odd_maps.kernel
    want = covmerged(models, maps, 1.0, 1.0)
    for name, t in models[0].items():
        assert_near(got[name], t.double() + want[name], t, name)
