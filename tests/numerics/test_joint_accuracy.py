"""Merges that join all changes to a map at once, made from folders, beside dense float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import odd_maps
import pytest
import torch
from families import read_model
from joint import WEIGHTS, has_weights, joint_recipe
from odd_maps import MAPS, UNTIED, place
from reference import spectral
from reference.dense import step
from torch import Tensor

import mdm_kit
from mdm_kit.methods.registry import methods

SHARP = "out_dtype: float64"
"""Deltas are formed in float64, too."""
ROUND_OFF = {
    torch.float64: 2**-53,
    torch.float32: 2**-24,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}
SIZES = {"F64": 0.05, "F32": 0.05, "mixed": 0.3}
"""How far models go, by the dtypes of tensors; rounding fills what is low in rank but in F64."""

Matrices = Sequence[spectral.Matrix]
Numbers = Sequence[float]
Join = Callable[[Matrices, Numbers, Numbers], spectral.Matrix]


def of_weighed(join: Callable[[Matrices, Numbers], spectral.Matrix]) -> Join:
    """The merge of changes that are weighed before anything else, as are their noise edges."""

    def joined(deltas: Matrices, edges: Numbers, weights: Numbers) -> spectral.Matrix:
        pairs = zip(weights, deltas, edges, strict=True)
        own, noise = zip(*((w * d, w * edge) for w, d, edge in pairs), strict=True)
        return join(own, noise)

    return joined


def of_inputs(deltas: Matrices, edges: Numbers, weights: Numbers) -> spectral.Matrix:
    return spectral.knots([d.T for d in deltas], edges, weights, 0.5).T


def calibrated(floor: float) -> Join:
    return of_weighed(lambda d, e: spectral.svc(d[0], e[0], d[1:], floor))


def filtered(rank: int, energy: float) -> Join:
    return of_weighed(lambda d, e: spectral.nullspace(d, e, rank, energy))


def exact(join: Callable[[Matrices, Numbers], spectral.Matrix]) -> Join:
    """The merge where rounding is taken at its word."""
    return of_weighed(lambda d, e: join(d, [0.0] * len(e)))


CASES: dict[str, tuple[str, str, Join]] = {
    "iso_c": ("iso_c", "", of_weighed(spectral.iso_c)),
    "iso_c exact": ("iso_c", "tail_tol: 0", exact(spectral.iso_c)),
    "iso_cts": ("iso_cts", "", of_weighed(lambda d, e: spectral.iso_cts(d, e, 0.8))),
    "half": ("iso_cts", "common: 0.5", of_weighed(lambda d, e: spectral.iso_cts(d, e, 0.5))),
    "knots": ("knots", "density: 0.3", lambda d, e, w: spectral.knots(d, e, w, 0.3)),
    "by input": ("knots", "density: 0.5, side: input", of_inputs),
    "nullspace": ("nullspace", "", filtered(128, 1.0)),
    "by rank": ("nullspace", "rank: 3", filtered(3, 1.0)),
    "by energy": ("nullspace", "energy: 0.4", filtered(128, 0.4)),
    "svc": ("svc", "", calibrated(0.1)),
    "svc at 1": ("svc", "floor: 1", calibrated(1.0)),
    "tsv_m": ("tsv_m", "", of_weighed(spectral.tsv_m)),
    "tsv_m exact": ("tsv_m", "tail_tol: 0", exact(spectral.tsv_m)),
}
"""By name: a method, its settings, and its reference on changes, noise edges and weights."""


def expected(
    models: Sequence[dict[str, Tensor]], maps: odd_maps.Maps, method: str, join: Join
) -> dict[str, Tensor]:
    """The merged changes before `lambda`."""
    n = len(models) - 1
    weighed = has_weights(method)
    weights = [WEIGHTS[i + 1] if weighed else 1.0 for i in range(n)]
    shares = [w / n for w in weights] if weighed else [1.0] + [0.0] * (n - 1)
    found = {}
    for name, t in models[0].items():
        formed = [m[name].double() - t.double() for m in models[1:]]
        change = sum((s * d for s, d in zip(shares, formed, strict=True)), 0 * formed[0])
        for i, part in enumerate(maps[name](change) if name in maps else ()):
            stored = maps[name](t)[i].double()
            sides = sum(math.sqrt(side) for side in stored.shape)
            size = float(stored.square().mean().sqrt()) * sides / math.sqrt(3)
            edges = [ROUND_OFF[m[name].dtype] * size for m in models[1:]]
            own = [maps[name](d)[i].numpy() for d in formed]
            part.copy_(torch.from_numpy(join(own, edges, weights)))
        found[name] = change
    return found


def assert_near(got: Tensor, base: Tensor, change: Tensor, name: str) -> None:
    """‖got - want‖ ≤ 1e-5 ‖Δ‖ plus half a unit in the last place of each element."""
    want = base.double() + change
    rounding = torch.linalg.vector_norm(0.5 * step(want, got.dtype))
    error = torch.linalg.vector_norm(got.double() - want)
    size = torch.linalg.vector_norm(change)
    assert error <= 1e-5 * size + rounding, (name, float(error / size))


@pytest.mark.parametrize(
    ("case", "kind"),
    [(c, k) for c in CASES for k in (SIZES if c in methods() or "exact" in c else ["F64"])],
)
def test_every_kind_of_map(tmp_path: Path, case: str, kind: str) -> None:
    """Square, tall, wide, turned, fused, packed, low in rank, untouched; factors by layer."""
    method, settings, join = CASES[case]
    models = odd_maps.write(tmp_path, kind, 3, SIZES[kind], tied=kind != "F32")
    settings = ", ".join(filter(None, (settings, "lambda: [0.5, 1.2, 0.9]")))
    text = joint_recipe(tmp_path, method, [1, 2, 3], settings, SHARP)
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    want = expected(models, UNTIED if kind == "F32" else MAPS, method, join)
    for name, t in models[0].items():
        factor = float(np.interp(place(name), [0, 0.5, 1], [0.5, 1.2, 0.9]))
        assert_near(got[name], t, factor * want[name], name)


@pytest.mark.parametrize("case", CASES)
def test_more_models_than_a_map_has_rows(tmp_path: Path, case: str) -> None:
    """A kernel as one map of six rows, which patterns choose, and single rows and columns."""
    method, settings, join = CASES[case]
    shapes = {"a.conv.weight": (3, 2, 3), "a.row.weight": (1, 9), "a.column.weight": (9, 1)}
    generator = torch.Generator().manual_seed(5)
    models = []
    for i in range(5):
        made = {
            n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()
        }
        odd_maps.write_model(tmp_path / (f"m{i}" if i else "base"), made)
        models.append(made)
    settings = ", ".join(filter(None, (settings, "project: ['*']")))
    text = joint_recipe(tmp_path, method, [1, 2, 3, 4], settings, SHARP)
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    want = expected(models, dict.fromkeys(shapes, odd_maps.kernel), method, join)
    for name, t in models[0].items():
        assert_near(got[name], t, want[name], name)
