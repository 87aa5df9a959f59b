"""Fused linear maps read by range: each byte of each model is sent once, the base's if it must."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fused_maps import MODELS, recipe, write_fused
from large_models import WINDOW_NBYTES
from pushes import run
from ranged_merges import content, data_nbytes, weights

import mdm_kit

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
LITTLE = ("--max-memory", "1MB", "--threads", "2")


@pytest.mark.parametrize(
    ("method", "parameters", "readings"),
    [("opcm", "", 4), ("opcm", "scale: 0.7", 3), ("covmerge", "", 3)],
)
def test_fused_maps_each_byte_once(
    client: Client, hub: Hub, method: str, parameters: str, readings: int
) -> None:
    """A scale that norms of the whole model decide takes a second reading of the base."""
    root = write_fused(client.home / "models", 1500, 48)
    for name in MODELS:
        hub.repo_folder(f"org/{name}", root / name, redirect=True)
    (client.home / "r.yml").write_text(recipe("org", method, parameters, "state"))
    told = run(client, "plan", "r.yml", "--json", *LITTLE)
    assert told["code"] == 0, told["err"]
    announced = json.loads(told["out"])["costs"]["download_nbytes"]
    before = len(hub.log)
    told = run(client, "merge", "r.yml", "out", *LITTLE)
    assert told["code"] == 0, told["err"]
    log = hub.log[before:]
    mdm_kit.merge(recipe(root, method, parameters, "state"), client.home / "near")
    assert weights(client.home / "out") == weights(client.home / "near")
    each = (root / "base" / "model.safetensors").stat().st_size
    assert data_nbytes(log) <= min(announced, readings * each)
    assert max(r.sent for r in content(log)) <= WINDOW_NBYTES
    assert not list(client.cache.rglob("*.safetensors"))
