"""A LoRA of models on the Hub: the bytes are the folder's, and each byte is sent once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fused_maps import write_fused
from pushes import ok
from ranged_merges import content, data_nbytes

import mdm_kit

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
WEIGHTS = "adapter_model.safetensors"


def test_a_lora_of_models_on_the_hub(client: Client, hub: Hub) -> None:
    root = write_fused(client.home / "models", 1500, 48)
    for name in ("base", "m1"):
        hub.repo_folder(f"org/{name}", root / name, redirect=True)
    before = len(hub.log)
    told = ok(client, "extract-lora", "org/m1", "org/base@main", "far", "--rank", "4")
    log = hub.log[before:]
    near = mdm_kit.extract_lora(root / "m1", root / "base", client.home / "near", rank=4)
    assert (client.home / "far" / WEIGHTS).read_bytes() == (near.out / WEIGHTS).read_bytes()
    assert [m["tensor"] for m in told["modules"]] == [p.tensor for p in near.pairs]
    config = json.loads((client.home / "far" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", "main")
    card = (client.home / "far" / "README.md").read_text()
    assert "base_model: org/base\nbase_model_relation: adapter\n" in card
    each = (root / "base" / "model.safetensors").stat().st_size
    assert 0 < data_nbytes(log) <= 2 * each
    assert content(log)
    assert not list(client.cache.rglob("*.safetensors"))
