"""Models that hardly differ: what is dependent, and what keeps its few exact digits."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from families import read_model, tensors, write_model
from merged_families import (
    BLOCK,
    Model,
    manifest_of,
    promised,
    recipe,
    triangles,
    write_models,
    write_related,
)
from reference.orthogonal_merge import mdm_oc

import mdm_kit

SCOPES = ("tensor", "layer", "global")
N = 70_001


def close_pair(root: Path, novelty: float, dtype: torch.dtype = torch.float64) -> list[Model]:
    """Two deltas; a share `novelty` of the second one's energy is not in the first.

    Their base is zero, so that they are the models, bit for bit.
    """
    noise = tensors({"a": ((N,), torch.float64), "b": ((N,), torch.float64)}, 1)
    a = noise["a"].to(dtype)
    models = [{"w": a}, {"w": (a.double() + math.sqrt(novelty) * noise["b"]).to(dtype)}]
    write_models(root, {"w": torch.zeros(N, dtype=dtype)}, models)
    return models


@pytest.mark.parametrize(("novelty", "dependent"), [(4e-12, []), (0.25e-12, ["m2"])])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_millionth_of_a_millionth_is_the_border(
    tmp_path: Path, scope: str, novelty: float, dependent: list[str]
) -> None:
    a, b = (m["w"] for m in close_pair(tmp_path, novelty))
    mdm_kit.merge(recipe(tmp_path, (0.0, 1.0), f"scope: {scope}"), tmp_path / "out")
    manifest = manifest_of(tmp_path / "out")
    (group,) = manifest.groups.values()
    assert group.dependent == dependent
    assert len(manifest.findings) == len(dependent)
    assert [f for f in manifest.findings if "m2 adds nothing of its own" in f] == manifest.findings
    got = read_model(tmp_path / "out")["w"]
    if dependent:
        assert not got.any()
        assert group.q[1] == 0.0
    else:
        want = b - (a @ b) / (a @ a) * a
        assert (got - want).norm() <= 1e-5 * want.norm()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", ["copy", "zero"])
def test_a_dependent_model_changes_no_byte(tmp_path: Path, scope: str, kind: str) -> None:
    """Its component is zero: whatever its coefficient, the merge is the one without it."""
    write_related(tmp_path, kind)
    alpha = {"m1": 1.0, "m2": 0.7, "m3": -0.4}
    idle = "m3" if kind == "copy" else "m2"
    alpha[idle] = 1e6
    rest = [m for m in alpha if m != idle]
    for out, names in (("all", list(alpha)), ("rest", rest)):
        text = recipe(tmp_path, [alpha[m] for m in names], f"scope: {scope}", names=names)
        mdm_kit.merge(text, tmp_path / out)
    groups = manifest_of(tmp_path / "all").groups.values()
    assert all(idle in g.dependent for g in groups)
    one, two = (promised(tmp_path / out)["model.safetensors"] for out in ("all", "rest"))
    assert one == two


@pytest.mark.parametrize("memory", [1, 2_000_000_000])
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_nearly_dependent_products_are_exact(tmp_path: Path, scope: str, memory: int) -> None:
    """A product of two float32 numbers is a float64 number, so math.fsum knows every digit."""
    pair = [m["w"].double() for m in close_pair(tmp_path, 2e-9, torch.float32)]
    mdm_kit.merge(
        recipe(tmp_path, (1.0, 1.0), f"scope: {scope}"), tmp_path / "o", memory_nbytes=memory
    )
    row = triangles(tmp_path / "o")["w"]
    want = [math.fsum((pair[i] * pair[j]).tolist()) for i, j in ((0, 0), (1, 0), (1, 1))]
    assert all(abs(g - w) <= math.ulp(w) for g, w in zip(row, want, strict=True))
    exact = [
        sum((Fraction(x) * Fraction(y) for x, y in zip(*p, strict=True)), Fraction())
        for p in (
            (pair[0].tolist(), pair[0].tolist()),
            (pair[1].tolist(), pair[0].tolist()),
            (pair[1].tolist(), pair[1].tolist()),
        )
    ]
    novelty = float(exact[2] - exact[1] ** 2 / exact[0])
    (group,) = manifest_of(tmp_path / "o").groups.values()
    assert group.dependent == []
    assert group.q[1] == pytest.approx(novelty, rel=1e-6)


def test_one_close_pair_in_a_layer_makes_all_its_sums_exact(tmp_path: Path) -> None:
    """What counts is the group: both tensors are needed for its small difference."""
    names = ("model.layers.0.a", "model.layers.0.b")
    noise = tensors(dict.fromkeys((*names, "c"), ((N,), torch.float32)), 1)
    first = {n: noise[n] for n in names}
    second = {n: noise[n] + 3e-5 * noise["c"] for n in names}
    write_models(tmp_path, {n: torch.zeros(N) for n in names}, [first, second])
    mdm_kit.merge(recipe(tmp_path, (1.0, 1.0), "scope: layer"), tmp_path / "out")
    for n, row in triangles(tmp_path / "out").items():
        a, b = first[n].double(), second[n].double()
        want = [math.fsum(p.tolist()) for p in (a * a, b * a, b * b)]
        assert all(abs(g - w) <= math.ulp(w) for g, w in zip(row, want, strict=True))


@pytest.mark.parametrize("how", ["gram_schmidt", "lowdin"])
@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_new_in_a_near_copy_survives_alone(tmp_path: Path, scope: str, how: str) -> None:
    """Only the small component is asked for, in float64: nothing large hides its error."""
    spec = {
        "model.layers.0.a": ((N,), torch.float64),
        "model.layers.0.b": ((BLOCK,), torch.float64),
    }
    base, models = write_related(tmp_path, "0.999999999", spec, n=2)
    text = recipe(tmp_path, (0.0, 1.0), f"scope: {scope}, orthogonalize: {how}")
    mdm_kit.merge(text, tmp_path / "out")
    want = mdm_oc(base, models, dict.fromkeys(base, (0.0, 1.0)), scope=scope, how=how)
    got = read_model(tmp_path / "out")
    for n, b in base.items():
        assert (got[n] - want[n]).norm() <= 1e-5 * (want[n] - b).norm()


def test_a_model_that_repeats_another_counts_once_for_every_orthogonalisation(
    tmp_path: Path,
) -> None:
    base, models = write_related(tmp_path, "copy")
    write_model(tmp_path / "again", models[0])
    for how in ("gram_schmidt", "lowdin"):
        text = recipe(tmp_path, (1.0, 1.0), f"orthogonalize: {how}", names=("m1", "again"))
        mdm_kit.merge(text, tmp_path / how)
        groups = manifest_of(tmp_path / how).groups
        assert groups["model.embed_tokens.weight"].dependent == ["again"]
    assert read_model(tmp_path / "gram_schmidt")["model.embed_tokens.weight"].allclose(
        models[0]["model.embed_tokens.weight"], rtol=0, atol=1e-6
    )
    assert base.keys() == read_model(tmp_path / "lowdin").keys()
