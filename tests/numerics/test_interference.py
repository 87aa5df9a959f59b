"""How orthogonal components really are, measured on the components and not on what made them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from families import Spec, read_model
from merged_families import (
    BLOCK,
    KINDS,
    Model,
    manifest_of,
    recipe,
    triangles,
    write_related,
)
from torch import Tensor

import mdm_kit
from mdm_kit.maths.orthogonal import Gram, gram_schmidt, summed

SPEC: Spec = {
    "model.layers.0.a": ((70_001,), torch.float32),
    "model.layers.0.b": ((BLOCK + 1,), torch.float32),
    "model.norm": ((2_049,), torch.float32),
}
U = 2.0**-53
SUMS = 32.0
"""How many roundings count in a sum over blocks: lanes and joins, as a random walk."""


def components(root: Path, out: Path, base: Model, parameters: str) -> list[Model]:
    """e_j as a merge writes it: with the coefficient 1 for model j and 0 for the others."""
    found = []
    for j in range(3):
        alpha = [float(i == j) for i in range(3)]
        mdm_kit.merge(recipe(root, alpha, parameters, "out_dtype: float64"), out / f"e{j}")
        got = read_model(out / f"e{j}")
        found.append({n: got[n] - base[n].double() for n in base})
    return found


def joined(model: Model, names: list[str]) -> Tensor:
    return torch.cat([model[n].double().flatten() for n in names])


@pytest.fixture(scope="module", params=KINDS)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Model, list[Model]]:
    root = tmp_path_factory.mktemp("family")
    return root, *write_related(root, request.param, SPEC)


@pytest.mark.parametrize("how", ["gram_schmidt", "lowdin"])
@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_what_is_left_of_the_cosines_is_below_its_bound(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, scope: str, how: str
) -> None:
    """The bound: SUMS N u κ for the sums, κ = max ‖d_i‖²/q_i, and 2s + s² for how e is stored.

    κ is that of Gram-Schmidt for both: Löwdin's components are as long as their deltas.
    """
    root, base, _ = family
    parts = components(root, tmp_path, base, f"scope: {scope}, orthogonalize: {how}")
    manifest, rows = manifest_of(tmp_path / "e0"), triangles(tmp_path / "e0")
    for group in manifest.groups.values():
        gram = summed([Gram(rows[t]) for t in group.tensors])
        q = gram_schmidt(gram).q
        live = [i for i in range(3) if f"m{i + 1}" not in group.dependent]
        kappa = max(gram.at(i, i) / q[i] for i in live)
        e = [joined(p, group.tensors) for p in parts]
        size = joined(base, group.tensors).norm()
        for i, j in itertools.combinations(live, 2):
            cosine = math.fsum((e[i] * e[j]).tolist()) / float(e[i].norm() * e[j].norm())
            stored = float(U * size / min(e[i].norm(), e[j].norm()))
            bound = SUMS * 3 * U * kappa + 2 * stored + stored**2
            assert abs(cosine) <= bound, (group.tensors, kappa)
        if how == "gram_schmidt":
            for i in range(3):
                assert float(e[i] @ e[i]) == pytest.approx(group.q[i], rel=1e-5)


def test_gram_schmidt_loses_kappa_and_no_more(
    family: tuple[Path, Model, list[Model]], tmp_path: Path
) -> None:
    """Float32 arithmetic: components from float32 deltas and the manifest's own weights."""
    root, base, models = family
    rows_of_a: dict[str, list[list[float]]] = {n: [] for n in base}
    for j in range(3):
        out = tmp_path / f"e{j}"
        mdm_kit.merge(recipe(root, [float(i == j) for i in range(3)]), out)
        for n in base:
            rows_of_a[n].append(manifest_of(out).tensors[n].weights or [])
    for n, b in base.items():
        gram = Gram(triangles(tmp_path / "e0")[n])
        deltas = torch.stack([(m[n] - b).double().flatten() for m in models])
        e = torch.tensor(rows_of_a[n], dtype=torch.float64) @ deltas
        q = manifest_of(tmp_path / "e0").groups[n].q
        live = [i for i in range(3) if q[i] > 0]
        assert not e[[i for i in range(3) if q[i] == 0]].any()
        kappa = max(gram.at(i, i) / q[i] for i in live)
        for i, j in itertools.combinations(live, 2):
            cosine = math.fsum((e[i] * e[j]).tolist()) / float(e[i].norm() * e[j].norm())
            assert abs(cosine) <= SUMS * 3 * U * kappa
