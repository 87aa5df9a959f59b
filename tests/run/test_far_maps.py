"""Linear maps of far models, fused ones too: each byte fetched once, the base twice if it must."""

from __future__ import annotations

from pathlib import Path

import pytest
from far_models import FarFolder, far
from fused_maps import MODELS, recipe, write_fused

import mdm_kit
from mdm_kit.planner.plan import Plan


def nbytes_of(plan: Plan) -> int:
    """Return the bytes of all tensors of a model."""
    return sum(t.nbytes for t in plan.source("base").checkpoint.tensors.values())


def fetched(models: dict[str, FarFolder]) -> list[int]:
    """Return the bytes fetched of each model; all were announced, and nothing is left of them."""
    assert not [lapse for m in models.values() for lapse in m.unannounced]
    assert sum(m.left_over for m in models.values()) == 0
    return [m.nbytes_fetched for m in models.values()]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fused(tmp_path_factory.mktemp("fused"), 96, 48)


@pytest.mark.parametrize("keep", ["none", "state"])
@pytest.mark.parametrize("memory_nbytes", [2_000_000_000, 1])
@pytest.mark.parametrize(
    ("method", "parameters"),
    [("opcm", ""), ("opcm", "scale: 0.7"), ("opcm", "scale_scope: tensor"), ("covmerge", "")],
)
def test_far_maps_are_fetched_once(
    small: Path, tmp_path: Path, method: str, parameters: str, memory_nbytes: int, keep: str
) -> None:
    text = recipe(small, method, parameters, keep)
    near = mdm_kit.merge(text, tmp_path / "near", threads=2, memory_nbytes=memory_nbytes)
    models = far({name: small / name for name in MODELS})
    with mdm_kit.plan(text, memory_nbytes=memory_nbytes, threads=2, sources=models) as plan:
        announced = plan.costs.download_nbytes
        each = nbytes_of(plan)
        assert {len(w.apply().matrices) for w in plan.writes} == {0, 2, 3, 6}
    out = tmp_path / "far"
    made = mdm_kit.merge(text, out, threads=2, memory_nbytes=memory_nbytes, sources=models)
    assert made.shards == near.shards
    found = fetched(models)
    # The scale of the whole model is known when every tensor is summed: then bases are read again.
    again = each if (method, parameters) == ("opcm", "") else 0
    assert found == [each + again, each, each]
    assert sum(found) <= announced
    assert memory_nbytes == 1 or sum(found) == announced


def test_parts_longer_than_what_is_fetched_ahead_do_not_chase_one_another(tmp_path: Path) -> None:
    root = write_fused(tmp_path, 60_000, 16)
    models = far({name: root / name for name in MODELS})
    text = recipe(root, "opcm", "scale: 0.7", "none")
    with mdm_kit.plan(text, memory_nbytes=1, threads=2, sources=models) as plan:
        announced = plan.costs.download_nbytes
        each = nbytes_of(plan)
    mdm_kit.merge(text, tmp_path / "out", threads=2, memory_nbytes=1, sources=models)
    assert 3 * each <= sum(fetched(models)) <= min(announced, 4 * each)
