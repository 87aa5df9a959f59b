"""The ledger holds one Gram matrix per tensor, and every weight of a merge follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from families import write_model
from merged_families import (
    CROSSING,
    KINDS,
    floating,
    manifest_of,
    recipe,
    triangles,
    write_related,
)

import mdm_kit
from mdm_kit.maths.orthogonal import ORTHOGONALISATIONS, Gram, summed

HOWS = tuple(ORTHOGONALISATIONS)
ALPHA = ("[1.0, 0.25]", "[{filter: mlp, value: 0.5}, {value: 0.75}]", "-0.4")


def alpha_of(name: str) -> tuple[float, ...]:
    """What `ALPHA` says: a gradient over two layers, a filter, and a number."""
    return (0.25 if "layers.1" in name else 1.0, 0.5 if "mlp" in name else 0.75, -0.4)


def test_the_ledger_is_the_same_in_every_scope(tmp_path: Path) -> None:
    base, _ = write_related(tmp_path, "0.3")
    seen = set()
    for scope in ("tensor", "layer", "global"):
        for how in ("gram_schmidt", "none"):
            out = tmp_path / f"{scope}-{how}"
            text = recipe(tmp_path, parameters=f"scope: {scope}, orthogonalize: {how}")
            mdm_kit.merge(text, out)
            seen.add((out / "mdm_ledger.safetensors").read_bytes())
            assert sorted(triangles(out)) == sorted(floating(base))
    assert len(seen) == 1
    assert triangles(out)["model.empty"] == (0.0,) * 6


@pytest.fixture(scope="module", params=KINDS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_related(root, request.param)
    return root


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_each_tensor_has_its_own_weights_from_its_groups_basis(
    family: Path, tmp_path: Path, scope: str, how: str
) -> None:
    """Bit for bit: what is computed again from the two files is what was merged with."""
    text = recipe(family, ALPHA, f"scope: {scope}, orthogonalize: {how}, lambda: 0.5")
    mdm_kit.merge(text, tmp_path / "out")
    manifest, rows = manifest_of(tmp_path / "out"), triangles(tmp_path / "out")
    measured = [t for group in manifest.groups.values() for t in group.tensors]
    assert sorted(measured) == sorted(rows)
    for group in manifest.groups.values():
        basis = ORTHOGONALISATIONS[how](summed([Gram(rows[t]) for t in group.tensors]))
        assert group.q == list(basis.q)
        assert group.dependent == [f"m{i + 1}" for i in basis.dependent]
        for t in group.tensors:
            want = [0.5 * w for w in basis.weights(alpha_of(t))]
            assert manifest.tensors[t].weights == want


@pytest.mark.parametrize("how", ["gram_schmidt", "lowdin"])
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_lapack_finds_the_same_weights(tmp_path: Path, scope: str, how: str) -> None:
    spec = {n: s for n, s in CROSSING.items() if "scale" not in n and "empty" not in n}
    write_related(tmp_path, "0.3", spec)
    mdm_kit.merge(
        recipe(tmp_path, ALPHA, f"scope: {scope}, orthogonalize: {how}"), tmp_path / "out"
    )
    manifest, rows = manifest_of(tmp_path / "out"), triangles(tmp_path / "out")
    lower = np.tril_indices(3)
    for group in manifest.groups.values():
        g = np.zeros((3, 3))
        g[lower] = np.sum([rows[t] for t in group.tensors], axis=0)
        g = g + np.tril(g, -1).T
        if how == "gram_schmidt":
            factor = np.linalg.cholesky(g)
            a = np.linalg.inv(factor / np.diag(factor))
        else:
            d = np.sqrt(np.diag(g))
            values, vectors = np.linalg.eigh(g / np.outer(d, d))
            a = d[:, None] * (vectors / np.sqrt(values) @ vectors.T) / d
        assert np.allclose(a @ g @ a.T, np.diag(group.q), rtol=1e-12, atol=1e-12 * g.max())
        for t in group.tensors:
            assert np.allclose(manifest.tensors[t].weights, a.T @ alpha_of(t), rtol=1e-12)


@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_another_tensor_counts_only_where_it_shares_the_scope(tmp_path: Path, scope: str) -> None:
    base, models = write_related(tmp_path, "0.3")
    changed, layer = "model.layers.0.norm.weight", "model.layers.0.mlp.weight"
    models[1][changed] = base[changed] + 50 * (models[1][changed] - base[changed])
    write_model(tmp_path / "m4", models[1])
    found = []
    for second in ("m2", "m4"):
        text = recipe(tmp_path, parameters=f"scope: {scope}", names=("m1", second, "m3"))
        mdm_kit.merge(text, tmp_path / f"with {second}")
        found.append(manifest_of(tmp_path / f"with {second}").tensors)
    differ = {t for t in floating(base) if found[0][t].weights != found[1][t].weights}
    expected = {
        "tensor": {changed},
        "layer": {changed, layer, "model.layers.0.attn.weight"},
        "global": set(floating(base)),
    }
    assert differ == expected[scope]
