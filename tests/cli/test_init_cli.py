"""`mdm-kit init`: goals, what fills them in, and files that are never replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdm_kit.api import check_recipe
from mdm_kit.authoring.goals import GOALS
from mdm_kit.cli.main import main


def out_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["init", *words]) == 0
    return capsys.readouterr().out


def test_lists_the_goals(capsys: pytest.CaptureFixture[str]) -> None:
    listed = out_of(capsys)
    assert all(goal in listed and draft.title in listed for goal, draft in GOALS.items())
    rows = json.loads(out_of(capsys, "--json"))
    assert [row["goal"] for row in rows] == list(GOALS)


@pytest.mark.parametrize("goal", GOALS)
def test_a_filled_in_recipe_reads_without_a_finding(
    goal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [f"me/m{i}" for i, _ in enumerate(GOALS[goal].places)]
    base = ["--base", "me/base@v1"] if GOALS[goal].takes_base else []
    given = [word for model in models for word in ("--model", model)]
    text = out_of(capsys, goal, *base, *given, "--dtype", "float32")
    parsed = check_recipe(text)
    assert not parsed.findings, parsed.render()
    recipe = parsed.require()
    named = dict.fromkeys(str(r.ref) for r in recipe.references)  # a base may have two documents
    assert list(named) == [*base[1:], *models]
    assert recipe.dtype is not None
    assert recipe.dtype.torch_name == "float32"
    assert "your-org" not in text


def test_models_beyond_the_starters_have_the_last_ones_parameters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", "a/1", "--model", "a/2", "--model", "a/3", "--model", "a/4"]
    recipe = check_recipe(out_of(capsys, "skills", *words)).require()
    weights = [m.setting("weight") for m in recipe.models]
    assert weights[3] == weights[2] != weights[1]
    assert [m.named for m in recipe.models] == [False] * 4


@pytest.mark.parametrize("reference", ["./my models/é", "1e5", "null", "a #b", "~/m", "a/b@v1+c/d"])
def test_any_reference_is_written_so_that_it_is_read_again(
    reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = check_recipe(out_of(capsys, "convert", "--model", reference)).require()
    assert str(recipe.models[0].ref) == reference


def test_a_file_is_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.yml"
    file.write_text("mine")
    assert main(["init", "average", "-o", str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert out_of(capsys, "average", "-o", str(file), "--force") == ""
    assert file.read_text() == GOALS["average"].text()
    document = json.loads(out_of(capsys, "average", "-o", str(tmp_path / "s.yml"), "--json"))
    assert document["recipe"] == (tmp_path / "s.yml").read_text() == file.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["avrage"], "did you mean 'average'?"),
        (["average", "--base", "a/b"], "has no base model"),
        (["--base", "a/b"], "expected a goal"),
        (["blend", "--model", "a/1", "--model", "a/2"], "found 2"),
        (["stock", "--model", "a/1"], "at least 2"),
        (["skills", "--model", "a/1", "--model", "a/1"], "is taken by"),
        (["skills", "--model", "a@b@c"], "more than one '@'"),
        (["skills", "--dtype", "int8"], "int8"),
        (["skills", "-o", "absent/r.yml"], "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["init", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []
