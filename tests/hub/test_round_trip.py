"""From models on the Hub to a merge on the Hub, and what another machine can do with its id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import Client
from llamas import Sizes, write_llamas
from pushes import commits, ok, remote_files, run

if TYPE_CHECKING:
    from server import Hub

pytestmark = pytest.mark.hub

RECIPE = """
merge_method: mdm_oc
base_model: org/base
models: [{model: org/m1}, {model: org/m2, parameters: {weight: 0.5}}]
license: apache-2.0
"""
LOADED = """
import torch
from transformers import AutoModelForCausalLM
model, facts = AutoModelForCausalLM.from_pretrained("tester/merged", output_loading_info=True)
with torch.no_grad():
    logits = model(torch.arange(12).reshape(1, 12)).logits
answer = {"missing": sorted(facts["missing_keys"]), "logits": logits.flatten().tolist()}
"""


@pytest.fixture
def family(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = Sizes(layers=3, hidden=32, inner=64, vocabulary=64)
    root = write_llamas(tmp_path_factory.mktemp("llamas"), sizes, torch.float32)
    for folder in root.iterdir():
        files = {p.name: p.read_bytes() for p in folder.iterdir()}
        hub.repo(f"org/{folder.name}", files, redirect=True)
    return root


@pytest.mark.parametrize("xet", [False, True])
def test_what_was_merged_nowhere_is_loaded_verified_and_taken_apart_anywhere(
    hub: Hub, client: Client, family: Path, tmp_path_factory: pytest.TempPathFactory, xet: bool
) -> None:
    (client.home / "r.yml").write_text(RECIPE)
    words = ("merge", "r.yml", "out", "--push", "tester/merged", "--no-local")
    ok(client, *words, "--shard-size", "20kB", xet=xet)
    assert {p.name for p in client.home.iterdir()} <= {"r.yml", "hf"}, "nothing stays here"
    assert commits(hub) == 1
    assert not client.cache.exists() or not list(client.cache.rglob("*.safetensors"))

    elsewhere = Client(hub, tmp_path_factory.mktemp("elsewhere"))
    verified = ok(elsewhere, "verify", "tester/merged")
    assert verified["sound"]
    assert verified["by_hub_digest"]
    found = elsewhere.stock(LOADED)
    assert found["missing"] == []
    ok(elsewhere, "merge", str(client.home / "r.yml"), "local")
    want = elsewhere.stock(LOADED.replace("tester/merged", str(elsewhere.home / "local")))
    assert found["logits"] == want["logits"]

    ok(elsewhere, "unmerge", "tester/merged", "without", "--drop", "m2")
    text = RECIPE.replace(", {model: org/m2, parameters: {weight: 0.5}}", "")
    (elsewhere.home / "never.yml").write_text(text)
    ok(elsewhere, "merge", "never.yml", "never")
    for path in (elsewhere.home / "never").glob("*.safetensors"):
        assert (elsewhere.home / "without" / path.name).read_bytes() == path.read_bytes()
    assert run(elsewhere, "verify", "tester/merged", "--deep")["code"] == 0
    assert "README.md" in remote_files(hub)
