"""Quantised models are known by config, names and dtypes, before anything is read of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import write_model
from torch import Tensor

import mdm_kit
from mdm_kit.words import Finding, Level

MAP = "model.layers.0.mlp.up_proj"
FAMILY = {f"{MAP}.weight": torch.zeros(8, 8), "model.norm.weight": torch.ones(8)}
CODES: dict[str, dict[str, Tensor]] = {
    "GPTQ or AWQ": {
        f"{MAP}.qweight": torch.zeros(1, 8, dtype=torch.int32),
        f"{MAP}.scales": torch.ones(1, 8, dtype=torch.float16),
    },
    "bitsandbytes": {
        f"{MAP}.weight": torch.zeros(32, 1, dtype=torch.uint8),
        f"{MAP}.weight.absmax": torch.ones(1),
        f"{MAP}.weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8),
    },
    "compressed-tensors": {f"{MAP}.weight_packed": torch.zeros(8, 1, dtype=torch.int32)},
    "MXFP4": {
        "model.layers.0.mlp.experts.gate_up_proj_blocks": torch.zeros(2, 8, 4, dtype=torch.uint8),
        "model.layers.0.mlp.experts.gate_up_proj_scales": torch.zeros(2, 8, dtype=torch.uint8),
    },
    "F8_E4M3": {
        f"{MAP}.weight": torch.zeros(8, 8).to(torch.float8_e4m3fn),
        f"{MAP}.weight_scale_inv": torch.ones(1, 1),
    },
    "I8": {f"{MAP}.weight": torch.zeros(8, 8, dtype=torch.int8)},
}


def found(root: Path, side: dict[str, bytes] | None = None, **given: object) -> list[Finding]:
    write_model(root / "m1", FAMILY)
    tensors, config = given.get("tensors", FAMILY), given.get("config")
    write_model(root / "m2", tensors, config=config, side_files=side)  # type: ignore[arg-type]
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n"
    with mdm_kit.plan(text + f"  - model: {root}/m1\n  - model: {root}/m2\n") as plan:
        return [f for f in plan.findings if f.level is Level.ERROR]


@pytest.mark.parametrize("maker", CODES)
def test_codes_are_told_from_weights_without_a_config(tmp_path: Path, maker: str) -> None:
    errors = found(tmp_path, tensors=CODES[maker])
    assert len(errors) == 1  # and nothing about names that do not agree
    assert f"m2 is quantised ({maker}" in errors[0].message
    assert "name the unquantised model" in errors[0].hint


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": {"quant_method": "fp8"}},
        {"text_config": {"quantization_config": {"quant_method": "fp8"}}},
        {"a": {"b": {"quantization_config": {"quant_method": "fp8"}}}},
    ],
)
def test_a_config_says_so_at_any_depth(tmp_path: Path, config: dict[str, object]) -> None:
    errors = found(tmp_path, config=config)
    assert [e.message.startswith("m2 is quantised (fp8, by config.json") for e in errors] == [True]


@pytest.mark.parametrize(
    ("config", "card", "named"),
    [
        ({"_name_or_path": "maker/model"}, "", "maker/model"),
        ({}, "---\nlicense: mit\nbase_model: maker/model\n---\n# A card", "maker/model"),
        ({}, "---\nbase_model:\n- maker/model\n- 'other/model'\n---\n", "maker/model, other/model"),
        ({}, '---\nbase_model: ["maker/model"]\ntags: [x]\n---\n', "maker/model"),
    ],
)
def test_the_model_it_was_made_from_is_named(
    tmp_path: Path, config: dict[str, object], card: str, named: str
) -> None:
    config = {"quantization_config": {"quant_method": "awq"}, **config}
    errors = found(tmp_path, {"README.md": card.encode()} if card else {}, config=config)
    assert errors[0].hint == f"name the unquantised model it was made from: {named}"


@pytest.mark.parametrize(
    "card",
    ["base_model: maker/model", "---\nbase_model:\n---\n", "---\n base_model: a/b\n---\n",
     "---\nbase_model: /home/me/model\n---\n", "---\nbase_model: ../x\n---\n", "\udcff---"],
)  # fmt: skip
def test_a_card_that_names_no_repository_is_not_believed(tmp_path: Path, card: str) -> None:
    config = {"quantization_config": True, "_name_or_path": "/home/me/model"}
    side = {"README.md": card.encode(errors="surrogateescape")}
    errors = found(tmp_path, side, config=config)
    assert errors[0].hint == "name the unquantised model it was made from"


def test_gguf_names_what_its_card_names(tmp_path: Path) -> None:
    write_model(tmp_path / "m1", FAMILY)
    (tmp_path / "m2").mkdir()
    (tmp_path / "m2" / "m2-Q4_K_M.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    (tmp_path / "m2" / "README.md").write_text("---\nbase_model: maker/model\n---\n")
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n"
    with mdm_kit.plan(text + f"  - model: {tmp_path}/m1\n  - model: {tmp_path}/m2\n") as plan:
        messages = [f.message for f in plan.findings if f.level is Level.ERROR]
    assert any("only GGUF" in m and m.endswith("made from: maker/model") for m in messages)


def test_integers_that_are_no_weights_are_no_codes(tmp_path: Path) -> None:
    more = {
        "model.position_ids": torch.arange(6).view(1, 6),
        "model.mask": torch.zeros(3, 3, dtype=torch.bool),
        "model.layers.0.scale.weight": torch.zeros(3, dtype=torch.int8),
        "model.layers.0.attn.scales": torch.ones(3),
    }
    write_model(tmp_path / "a" / "m1", {**FAMILY, **more})
    write_model(tmp_path / "a" / "m2", {**FAMILY, **more})
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n"
    with mdm_kit.plan(text + f"  - model: {tmp_path}/a/m1\n  - model: {tmp_path}/a/m2\n") as plan:
        assert not [f for f in plan.findings if f.level is Level.ERROR]
