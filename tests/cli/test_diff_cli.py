"""`mdm-kit diff`: what is printed, in which order, with which exit code."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import ODD, fine_tuned, tensors, write_family, write_model

from mdm_kit.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def family(tmp_path: Path) -> Path:
    write_family(tmp_path, n=1)
    return tmp_path


def test_a_model_and_itself(family: Path, capsys: Captured) -> None:
    assert main(["diff", f"{family}/base", f"{family}/base"]) == 0
    captured = capsys.readouterr()
    assert "the same bits in every tensor" in captured.out
    assert "16 tensors" in captured.out
    assert captured.err == ""


def test_the_largest_changes_come_first(tmp_path: Path, capsys: Captured) -> None:
    base = {name: torch.ones(4) for name in ("small", "large", "same", "from_nothing")}
    base["from_nothing"] = torch.zeros(4)
    base["counter"] = torch.tensor([1, 2])
    other = {name: t.clone() for name, t in base.items()}
    other["small"][1] += 0.25
    other["large"] *= 3
    other["from_nothing"] += 1
    other["counter"] += 1
    write_model(tmp_path / "a", base)
    write_model(tmp_path / "b", other)
    assert main(["diff", f"{tmp_path}/a", f"{tmp_path}/b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0] in base]
    assert [row[0] for row in rows] == ["from_nothing", "large", "small", "counter"]
    assert rows[1] == ["large", "F32", "100.00%", "2", "1.00000000", "2", "0"]
    assert rows[2][2:4] == ["25.00%", "0.125"]
    assert rows[2][5:] == ["0.25", "1"]
    assert rows[3][1:] == ["I64", "100.00%", "-", "-", "-", "-"]
    assert main(["diff", f"{tmp_path}/a", f"{tmp_path}/b", "--top", "1"]) == 0
    captured = capsys.readouterr()
    assert "large " not in captured.out.replace("largest ", "")
    assert "3 more changed tensors" in captured.err


@pytest.mark.parametrize(
    ("by", "said"), [("layer", "model.layers.2 "), ("kind", "model.layers.*.mlp.up.weight")]
)
def test_totals_of_groups(family: Path, capsys: Captured, by: str, said: str) -> None:
    assert main(["diff", f"{family}/base", f"{family}/m1", "--by", by]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "relative norm" in out


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: Captured) -> None:
    a = {
        "only_a\x1b[31m": torch.ones(1),
        "shape": torch.ones(2),
        "wider": torch.ones(2).bfloat16(),
        "kind": torch.ones(2),
        "holes": torch.tensor([math.nan, 1.0]),
    }
    b = {
        "only_b": torch.ones(1),
        "shape": torch.ones(3),
        "wider": torch.ones(2),
        "kind": torch.ones(2, dtype=torch.int64),
        "holes": torch.tensor([math.inf, 1.0]),
    }
    write_model(tmp_path / "a", a)
    write_model(tmp_path / "b", b)
    assert main(["diff", f"{tmp_path}/a", f"{tmp_path}/b"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    for said in ("1 tensor: 'only_a\\x1b[31m'", "1 tensor: 'only_b'", "'shape (2) -> (3)'",
                 "1 BF16 -> F32", "'kind': dtypes without values in common",
                 "1 elements of A and 1 of B are NaN or infinite"):  # fmt: skip
        assert said in out


def test_json_is_one_strict_document(tmp_path: Path, capsys: Captured) -> None:
    base = tensors(ODD, 0) | {"zero": torch.zeros(3), "nan": torch.tensor([math.nan])}
    moved = fine_tuned(base, 1)
    write_model(tmp_path / "a", base)
    write_model(tmp_path / "b", moved, n_shards=2)
    assert main(["diff", f"{tmp_path}/a", f"{tmp_path}/b", "--json", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out, parse_constant=pytest.fail)
    assert document["a"] == f"{tmp_path}/a"
    assert document["identical"] is False
    assert set(document["tensors"]) == set(base)
    assert document["tensors"]["zero"]["relative_norm"] is None
    assert document["tensors"]["nan"]["not_finite"] == [1, 1]
    assert document["tensors"]["model.mask"]["changed_share"] == 0.0
    assert "norm_a" not in document["tensors"]["model.mask"]
    assert document["layers"]["model.layers.0"]["n_tensors"] == 3
    assert "model.layers.*.norm.weight" in document["kinds"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["{}/base", "{}/absent"], 5),
        (["{}/base", "{}/base+{}/m1"], 5),
        (["{}/base", "a@b@c"], 2),
        (["{}/base"], 2),
        (["{}/base", "{}/m1", "--by", "name"], 2),
        (["{}/base", "{}/torn"], 4),
    ],
)
def test_exit_codes(family: Path, capsys: Captured, words: list[str], code: int) -> None:
    torn = write_model(family / "torn", {"t": torch.ones(2)}) / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    full = ["diff", *(word.replace("{}", str(family)) for word in words)]
    assert main(full) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert main([*full, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["exit_code"] == code


def test_no_torch_is_imported(family: Path) -> None:
    probe = (
        "import sys\nfrom mdm_kit.cli.main import main\n"
        f"code = main(['diff', {str(family / 'base')!r}, {str(family / 'm1')!r}])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\nsys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
