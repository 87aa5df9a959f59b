"""`mdm-kit extract-lora`: what is printed, with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import write_model

from mdm_kit.cli.main import main

Captured = pytest.CaptureFixture[str]
CONFIG = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    numbers = torch.Generator().manual_seed(0)
    base = {
        "model.embed_tokens.weight": torch.randn(50, 8, generator=numbers),
        "model.layers.0.mlp.up_proj.weight": torch.randn(16, 8, generator=numbers),
        "model.layers.1.mlp.up_proj.weight": torch.randn(16, 8, generator=numbers),
        "model.norm.weight": torch.ones(8),
    }
    tuned = {name: t + 0.1 * torch.randn(t.shape, generator=numbers) for name, t in base.items()}
    write_model(tmp_path / "base", base, config=CONFIG)
    write_model(tmp_path / "tuned", tuned, config=CONFIG)
    return tmp_path


def words(pair: Path, *more: str) -> list[str]:
    return ["extract-lora", f"{pair}/tuned", f"{pair}/base", f"{pair}/lora", *more]


def test_what_is_printed(pair: Path, capsys: Captured) -> None:
    assert main(words(pair, "--rank", "2")) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines() if line.strip()]
    (kind,) = (row for row in rows if row[0] == "model.layers.*.mlp.up_proj.weight")
    assert kind[1:3] == ["2", "2"]
    (embedding,) = (row for row in rows if row[0] == "model.embed_tokens.weight")
    assert embedding[-1] == "no"
    assert "2 changed tensors" in captured.out
    assert "--save-modules takes what it can" in captured.out
    assert captured.err == ""


def test_one_document(pair: Path, capsys: Captured) -> None:
    assert main(words(pair, "--energy", "0.9", "--max-rank", "20", "--save-modules", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert {m["module"] for m in found["modules"]} == {
        f"model.layers.{i}.mlp.up_proj" for i in range(2)
    }
    assert all(m["kept"] >= 0.9 - 1e-6 and m["rank"] < 8 for m in found["modules"])
    assert {o["tensor"]: o["saved"] for o in found["others"]} == {
        "model.embed_tokens.weight": True,
        "model.norm.weight": True,
    }
    assert found["nbytes"] == (pair / "lora" / "adapter_model.safetensors").stat().st_size


def test_experts_that_peft_cannot_join_are_told(tmp_path: Path, capsys: Captured) -> None:
    names = [f"model.layers.0.mlp.experts.{i}.up_proj.weight" for i in range(2)]
    names.append("model.layers.0.mlp.shared_expert.up_proj.weight")
    base = {name: torch.ones(4, 4) for name in names}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "tuned", {**base, names[0]: 2 * base[names[0]]})
    assert main(words(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "not every expert has factors of the same rank" in said
    assert "in and outside of experts are called up_proj" in said


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--rank", "0"], 2, "--rank"),
        (["--rank", "4", "--energy", "0.5"], 2, "leave one out"),
        (["--energy", "1.5"], 2, "--energy"),
    ],
)
def test_wrong_options(more: list[str], code: int, said: str, pair: Path, capsys: Captured) -> None:
    assert main(words(pair, *more)) == code
    assert said in capsys.readouterr().err
    assert not (pair / "lora").exists()


def test_exit_codes(pair: Path, capsys: Captured) -> None:
    (pair / "lora").mkdir()
    (pair / "lora" / "mine").write_text("mine")
    assert main(words(pair)) == 2
    write_model(pair / "other", {"model.norm.weight": torch.ones(9)})
    assert main(["extract-lora", f"{pair}/tuned", f"{pair}/other", f"{pair}/out"]) == 3
    assert main(["extract-lora", f"{pair}/gone", f"{pair}/base", f"{pair}/out"]) == 5
    assert [path.name for path in (pair / "lora").iterdir()] == ["mine"]


def test_a_finished_merge_is_not_replaced(pair: Path, capsys: Captured) -> None:
    out = pair / "out"
    out.mkdir()
    (out / "mdm_manifest.json").write_text("{}")
    assert main(["extract-lora", str(pair / "tuned"), str(pair / "base"), str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is a finished merge; name a folder that does not exist yet" in said
    assert "--overwrite" not in said  # which this command does not have
    assert [p.name for p in out.iterdir()] == ["mdm_manifest.json"]
