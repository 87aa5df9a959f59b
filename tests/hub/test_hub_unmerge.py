"""A merge of models on the Hub taken apart: pinned commits, a repository that is gone, a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save
from test_hub_merge import run

from mdm_kit.ledger.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

RECIPE = """
merge_method: mdm_oc
base_model: org/base
models: [{model: org/a}, {model: org/b, parameters: {weight: 0.5}}, {model: org/c}]
ledger: {keep: KEEP}
"""
NAMES = ("base", "a", "b", "c")


def model(seed: int) -> dict[str, bytes]:
    generator = np.random.default_rng(seed)
    start = np.random.default_rng(0).standard_normal(5000)
    moved = start + 0.01 * generator.standard_normal(5000)
    weights = save({"w": (moved if seed else start).astype(np.float32)})
    return {"config.json": b"{}", "model.safetensors": weights}


@pytest.fixture
def files(hub: Hub) -> dict[str, dict[str, bytes]]:
    files = {name: model(seed) for seed, name in enumerate(NAMES)}
    for name in NAMES:
        hub.repo(f"org/{name}", files[name])
    return files


def merged(client: Client, keep: str) -> None:
    (client.home / "r.yml").write_text(RECIPE.replace("KEEP", keep))
    answer = run(client, "merge", "r.yml", "all")
    assert answer["code"] == 0, answer["err"]


def weights(client: Client, name: str) -> bytes:
    return (client.home / name / "model.safetensors").read_bytes()


def manifest(client: Client, name: str) -> Manifest:
    return Manifest.from_bytes((client.home / name / "mdm_manifest.json").read_bytes())


def never(client: Client, folder: str) -> bytes:
    text = RECIPE.replace("KEEP", "references")
    (client.home / "r2.yml").write_text(
        text.replace("{model: org/b, parameters: {weight: 0.5}}, ", "")
    )
    assert run(client, "merge", "r2.yml", folder)["code"] == 0
    return weights(client, folder)


def test_survivors_are_read_at_their_commits_and_the_removed_model_not_at_all(
    client: Client, hub: Hub, files: dict[str, dict[str, bytes]]
) -> None:
    merged(client, "references")
    wanted = never(client, "never")
    hub.repos["org/a"].commit(model(9))  # the branch moves on
    asked = len(hub.log)
    answer = run(client, "unmerge", "all", "out", "--drop", "b")
    assert answer["code"] == 0, answer["err"]
    assert weights(client, "out") == wanted
    assert not [r for r in hub.log[asked:] if "org/b/" in r.path + "/"]
    before, after = manifest(client, "all"), manifest(client, "out")
    kept = {s.name: s for s in before.sources if s.name != "b"}
    assert {s.name: s for s in after.sources} == kept
    answer = run(client, "verify", "--deep", "out")
    assert answer["code"] == 0, answer["err"]


def test_a_copy_takes_the_place_of_a_repository_that_is_gone(
    client: Client, hub: Hub, files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    merged(client, "references")
    wanted = never(client, "never")
    del hub.repos["org/a"]
    answer = run(client, "unmerge", "all", "out", "--drop", "b")
    assert answer["code"] == 5
    assert "org/a" in str(answer["err"])
    assert "--source NAME=" in str(answer["err"])
    for copy, source in (("copy", "a"), ("other", "c")):
        (client.home / copy).mkdir()
        for name, data in files[source].items():
            (client.home / copy / name).write_bytes(data)
    answer = run(client, "unmerge", "all", "out", "--drop", "b", "--source", "a=other")
    assert answer["code"] == 4
    answer = run(client, "unmerge", "all", "out", "--drop", "b", "--source", "a=copy")
    assert answer["code"] == 0, answer["err"]
    assert weights(client, "out") == wanted
    entry = {s.name: s for s in manifest(client, "out").sources}["a"]
    assert entry.reference.startswith("org/a@"), "it is still the same model"


def test_kept_models_take_the_place_of_the_hub(
    client: Client, hub: Hub, files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    merged(client, "deltas+base")
    wanted = never(client, "never")
    assert not client.cache.exists(), "a merge keeps nothing of its models"
    hub.repos.clear()
    answer = run(client, "unmerge", "all", "out", "--drop", "b")
    assert answer["code"] == 0, answer["err"]
    assert weights(client, "out") == wanted
    for name in ("a", "base"):
        assert run(client, "extract", "all", name, f"{name}-again")["code"] == 0
        found = (client.home / f"{name}-again" / "model.safetensors").read_bytes()
        assert found == files[name]["model.safetensors"]
