"""A worked example: three models, two tensors, every number of manifest and ledger by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import read_model, write_model
from safetensors.torch import load_file

import mdm_kit

BASE = {"model.layers.0.w": [1.0, 1.0, 1.0, 1.0], "model.norm.weight": [1.0, 1.0]}
DELTAS = [
    {"model.layers.0.w": [2.0, 0.0, 0.0, 0.0], "model.norm.weight": [0.5, 0.0]},
    {"model.layers.0.w": [1.0, 4.0, 0.0, 0.0], "model.norm.weight": [0.0, 0.25]},
    {"model.layers.0.w": [0.0, 2.0, 3.0, 0.0], "model.norm.weight": [1.0, 1.0]},
]
ALPHA = (1.0, 0.5, 2.0)


def family(root: Path) -> str:
    def tensors(delta: dict[str, list[float]]) -> dict[str, torch.Tensor]:
        return {n: torch.tensor(BASE[n]) + torch.tensor(delta[n]) for n in BASE}

    write_model(root / "base", tensors({n: [0.0] * len(v) for n, v in BASE.items()}))
    lines = [f"merge_method: mdm_oc\nbase_model: {root}/base\nmodels:"]
    for i, (delta, alpha) in enumerate(zip(DELTAS, ALPHA, strict=True), start=1):
        write_model(root / f"m{i}", tensors(delta))
        lines.append(f"  - {{model: {root}/m{i}, parameters: {{weight: {alpha}}}}}")
    return "\n".join(lines) + "\n"


def test_every_number(tmp_path: Path) -> None:
    mdm_kit.merge(family(tmp_path), tmp_path / "out")
    got = read_model(tmp_path / "out")
    # e1 = d1; e2 = d2 - (2/4) d1 = (0,4,0,0); e3 = d3 - 0 e1 - (8/16) e2 = (0,0,3,0)
    assert got["model.layers.0.w"].tolist() == [3.0, 3.0, 7.0, 1.0]
    # e1 = (.5,0); e2 = (0,.25); e3 = d3 - 2 e1 - 4 e2 = 0: the third model is dependent here
    assert got["model.norm.weight"].tolist() == [1.5, 1.125]

    manifest = json.loads((tmp_path / "out" / "mdm_manifest.json").read_text())
    assert manifest["schema"] == "mdm_kit/manifest/1"
    assert manifest["method"] == "mdm_oc"
    assert [(s["name"], s["role"]) for s in manifest["sources"]] == [
        ("base", "base"),
        ("m1", "model"),
        ("m2", "model"),
        ("m3", "model"),
    ]
    assert [s["parameters"] for s in manifest["sources"]] == [{}, *({"weight": a} for a in ALPHA)]
    assert manifest["precision"] == {"compute": ["float32"], "dtype": None, "out_dtype": None}
    assert manifest["groups"] == {
        "model.layers.0.w": {
            "tensors": ["model.layers.0.w"],
            "q": [4.0, 16.0, 9.0],
            "dependent": [],
            "largest_cosine": pytest.approx(8 / (17 * 13) ** 0.5),
            "condition": 13 / 9,
        },
        "model.norm.weight": {
            "tensors": ["model.norm.weight"],
            "q": [0.25, 0.0625, 0.0],
            "dependent": ["m3"],
            "largest_cosine": pytest.approx(0.5**0.5),
            "condition": 1.0,
        },
    }
    # w = Aᵀ α with A = [[1,0,0],[-1/2,1,0],[1/4,-1/2,1]], and the third row zero where dependent
    weights = {n: t["weights"] for n, t in manifest["tensors"].items()}
    assert weights == {"model.layers.0.w": [1.25, -0.5, 2.0], "model.norm.weight": [1.0, 0.5, 0.0]}
    assert manifest["ledger"]["tensors"] == ["model.layers.0.w", "model.norm.weight"]
    gram = load_file(tmp_path / "out" / "mdm_ledger.safetensors")["gram"]
    assert gram.dtype == torch.float64
    assert gram.tolist() == [
        [4.0, 2.0, 17.0, 0.0, 8.0, 13.0],
        [0.25, 0.0, 0.0625, 0.5, 0.25, 2.0],
    ]
    assert len(manifest["findings"]) == 1
    assert "m3 adds nothing of its own in 1 of 2 groups" in manifest["findings"][0]
    assert manifest["history"][0]["parent"] is None
    assert mdm_kit.verify(tmp_path / "out").sound
