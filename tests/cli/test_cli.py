"""The command line: exit codes, what goes to stdout, what it imports, what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import write_family, write_model

from mdm_kit.cli.main import main


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_family(tmp_path, n=2)
    path = tmp_path / "recipe.yml"
    path.write_text(
        f"merge_method: linear\nmodels:\n"
        f"  - {{model: {tmp_path}/m1, parameters: {{weight: 0.5}}}}\n"
        f"  - {{model: {tmp_path}/m2, parameters: {{weight: 0.5}}}}\n"
    )
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["plan", "--help"],
        ["merge", "--help"],
        ["extract-lora", "--help"],
        ["--version"],
    ],
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    probe = (
        "import sys\nfrom mdm_kit.cli.main import main\n"
        f"code = main({words!r})\n"
        "heavy = {'torch', 'numpy', 'numba', 'transformers', 'huggingface_hub', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\nsys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "mdm" in ended.stdout


def test_plan_of_local_models_imports_no_torch(recipe: Path) -> None:
    probe = (
        "import sys\nfrom mdm_kit.cli.main import main\n"
        f"code = main(['plan', {str(recipe)!r}])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\nsys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_the_whole_way(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["plan", str(recipe)]) == 0
    text = capsys.readouterr().out
    assert "linear" in text
    assert "m1" in text
    assert "one pass" in text
    assert main(["merge", str(recipe), out]) == 0
    assert "mdm-kit verify" in capsys.readouterr().out
    assert main(["verify", out]) == 0
    assert "every digest fits" in capsys.readouterr().out
    assert main(["inspect", out]) == 0
    assert "local:m1@sha256:" in capsys.readouterr().out


def test_json_is_one_document_on_stdout(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for words in (
        ["plan", str(recipe), "--json"],
        ["merge", str(recipe), out, "--json"],
        ["verify", out, "--json"],
        ["inspect", out, "--json"],
        ["methods", "--json"],
        ["methods", "linear", "--json"],
    ):
        assert main(words) == 0
        json.loads(capsys.readouterr().out)


def test_json_of_a_failure_is_one_document_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yml").write_text("merge_method: lniear\nmodels: [{model: nowhere/at-all-x}]\n")
    assert main(["plan", str(tmp_path / "r.yml"), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert "did you mean 'linear'?" in document["error"]


def test_plan_json_of_misfits_holds_the_findings(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "other", {"model.scale": torch.zeros(3)})
    recipe.write_text(recipe.read_text().replace("/m2", "/other"))
    assert main(["plan", str(recipe), "--json"]) == 3
    captured = capsys.readouterr()
    levels = [f["level"] for f in json.loads(captured.out)["findings"]]
    assert levels.count("error") == 2
    assert "lacks 15 of the 16 tensors" in captured.err


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("merge_method: linear", "merge_method: liner"), 2, "did you mean 'linear'?"),
        (("weight: 0.5", "wieght: 0.5"), 2, "did you mean 'weight'?"),
        (("merge_method", "merg_method"), 2, "did you mean 'merge_method'?"),
        (("/m2", "/m22"), 5, "m22"),
        (("weight: 0.5", "weight: .nan"), 2, "finite number"),
        (("weight: 0.5", "weight: [0.5, [1]]"), 2, "list inside a list"),
    ],
)
def test_what_is_wrong_has_its_exit_code_its_line_and_leaves_nothing(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    code: int,
    said: str,
) -> None:
    recipe.write_text(recipe.read_text().replace(*change))
    before = sorted(tmp_path.rglob("*"))
    for words in (["plan", str(recipe)], ["merge", str(recipe), str(tmp_path / "out")]):
        assert main(words) == code
        captured = capsys.readouterr()
        assert said in captured.err
        assert "recipe.yml:" in captured.err
        assert "^" in captured.err
        assert "Traceback" not in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_everything_wrong_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yml").write_text(
        "merge_method: task_arithmetic\nmodels:\n  - {model: a/b, parameters: {wieght: 1}}\n"
        "dtpye: float32\nparameters: {normalise: yes, lambda: [1, x]}\nseed: 012\n"
    )
    assert main(["plan", str(tmp_path / "r.yml")]) == 2
    said = capsys.readouterr().err
    for words in ("'wieght'", "'dtpye'", "'normalise'", "expected a number, found 'x'", "'012'",
                  "needs a base_model"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["plan"], 2),
        (["nonsense"], 2),
        (["plan", "absent.yml"], 2),
        (["merge", "absent.yml", "out", "--resume", "--fresh"], 2),
        (["merge", "absent.yml", "out", "--shard-size", "0"], 2),
        (["merge", "absent.yml", "out", "--threads", "0"], 2),
        (["verify", "absent"], 5),
        (["inspect", "absent"], 5),
        (["methods", "tise"], 2),
    ],
)
def test_usage_errors(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_device_that_is_not_there(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cuda:7", "tpu", "meta"):
        assert main(["merge", str(recipe), str(tmp_path / "out"), "--device", device]) == 2
        assert device in capsys.readouterr().err


def test_an_internal_error_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mdm_kit.methods.registry as registry

    monkeypatch.setattr(registry, "methods", lambda: 1 / 0)
    assert main(["methods"]) == 1
    said = capsys.readouterr().err
    assert "internal error: ZeroDivisionError" in said
    assert "Traceback" not in said


def test_a_changed_byte_is_found_and_named(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["merge", str(recipe), str(out)]) == 0
    shard = out / "model.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", str(out)]) == 4
    said = capsys.readouterr().err
    assert "model.safetensors: expected sha256:" in said
    assert "was changed" in said


@pytest.mark.parametrize(
    "words", [["merge"], ["plan", "--nope", "x"], ["bogus"], ["merge", "a", "b", "--threads", "0"]]
)
def test_json_of_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_a_terminal_without_sigma_gets_its_escape() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mdm_kit", "methods", "linear"],
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"\\u03a3" in ended.stdout


def test_the_demo_leaves_other_peoples_folders_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yml").write_text("mine")
    assert main(["demo", str(tmp_path)]) == 2
    assert main(["demo", str(tmp_path / "recipe.yml")]) == 2
    assert (tmp_path / "recipe.yml").read_text() == "mine"
    assert "Traceback" not in capsys.readouterr().err
