"""Recipes of several documents on the command line: what plan and merge print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from families import write_family
from staged import filled

from mdm_kit.cli.main import main

RECIPE = """\
name: first
merge_method: ties
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {weight: 0.5}
---
name: second
merge_method: opcm
base_model: BASE
models: [{model: first}, {model: M2}]
---
merge_method: linear
models: [{model: second}, {model: M3}]
parameters: {weight: 0.5}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write_family(tmp_path, n=3)
    (tmp_path / "r.yml").write_text(filled(tmp_path, RECIPE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return "r.yml"


def test_a_plan_shows_its_stages(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (next(x for x in lines if x.startswith(f" {n}")) for n in ("first", "second"))
    assert "ties" in first
    assert "made as it is read" in first
    assert "first, m2" in second
    assert "written to disk, then read" in second
    assert sum(x.startswith((" base", " m1", " m2", " m3")) for x in lines) == 4
    assert main(["plan", recipe, "--explain"]) == 0
    told = capsys.readouterr().out
    assert [told.count(x) for x in ("first, ties:", "second, opcm:", "the result, linear:")] == [
        1
    ] * 3


def test_a_plan_as_json_has_whole_plans_of_its_stages(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", recipe, "--json", "--explain"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["method"], s["streams"]) for s in plan["stages"]] == [
        ("first", "ties", True),
        ("second", "opcm", False),
    ]
    assert len(plan["stages"][0]["shards"][0]["tensors"]) == 16
    assert plan["costs"]["stages_nbytes"] == plan["stages"][1]["costs"]["write_nbytes"] > 0
    assert plan["stage_values"].keys() == {"first", "second"}


def test_a_merge_says_what_it_went_through(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", recipe, "out"]) == 0
    told = capsys.readouterr()
    assert "16 tensors of 4 models, ties, then opcm, then linear" in told.out
    assert "merging the stage second" in told.err
    assert main(["inspect", "out"]) == 0
    assert "opcm" in capsys.readouterr().out


def test_errors_stand_where_they_are(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(recipe).read_text().replace("name: first\n", "").replace("opcm", "opcn")
    Path(recipe).write_text(text)
    assert main(["plan", recipe]) == 2
    told = capsys.readouterr().err
    assert "r.yml:1:15: error: a document before the last one has no 'name'" in told
    assert "r.yml:7:15: error: there is no merge method 'opcn'" in told
