"""add, unmerge, extract and verify as a person types them: words, exit codes, one JSON document."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import Spec
from merged_families import recipe, write_related

import mdm_kit
from mdm_kit.cli.main import main

SPEC: Spec = {
    "model.layers.0.a": ((70, 31), torch.bfloat16),
    "model.layers.1.a": ((1201,), torch.float32),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_related(root, "0.3", SPEC, n=4)
    text = recipe(root, (1.0, 0.7, -0.4), "", "ledger: {keep: deltas}")
    mdm_kit.merge(text, root / "all")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A family of its own: what a test moves does not miss another."""
    shutil.copytree(made / "all", tmp_path / "all")
    for name in ("base", "m1", "m2", "m3", "m4"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def run(*words: object) -> int:
    return main([str(w) for w in words])


def test_three_commands(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", root / "all") == 0
    said = capsys.readouterr().out
    assert "unmerge --mode rebuild" in said
    assert "leak" in said
    assert run("unmerge", root / "all", root / "out", "--drop", "m2") == 0
    said = capsys.readouterr().out
    assert "the bytes equal a merge that never contained it" in said
    assert "m1, m3" in said
    assert run("verify", "--deep", root / "out") == 0
    said = capsys.readouterr().out
    assert "every tensor has the same bytes" in said
    assert "merge -> unmerge" in said
    assert "interference" in said


def test_a_subtraction_warns_where_it_is_no_removal(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("unmerge", root / "all", root / "a", "--drop", "m1", "--mode", "subtract") == 0
    said = capsys.readouterr()
    assert "(leak)" in said.out
    assert "warning: this is not removal" in said.err
    assert run("unmerge", root / "all", root / "b", "--drop", "m3", "--mode", "subtract") == 0
    said = capsys.readouterr()
    assert "nothing of it is left" in said.out
    assert "warning" not in said.err
    assert run("unmerge", root / "all", root / "c", "--drop", "m1", "--mode", "exact") == 0
    assert "at most one step of the output dtype away" in capsys.readouterr().out


def test_json_is_one_document(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [
        ("unmerge", root / "all", root / "a", "--drop", "m1", "--mode", "subtract"),
        ("add", root / "all", root / "b", "--model", root / "m4", "--weight", "0.5"),
        ("extract", root / "all", "m2", root / "c"),
        ("verify", root / "all", "--deep"),
        ("diff", root / "all", root / "m1"),
    ]
    documents = []
    for call in calls:
        assert run(*call, "--json") == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0]["event"]["certificate"]["leak"] > 0
    assert documents[1]["event"]["added"] == ["m4"]
    assert documents[2]["model"] == "m2"
    assert {g["model"] for g in documents[3]["guarantees"]} == {"m1", "m2", "m3"}
    assert documents[3]["remade"]["faults"] == []


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("mdm_oc", "unmerge --mode rebuild, unmerge --mode exact, unmerge --mode subtract"),
        ("linear", "taken out again by unmerge --mode rebuild."),
        ("passthrough", "nothing to take out"),
    ],
)
def test_a_method_says_how_it_is_undone(
    capsys: pytest.CaptureFixture[str], method: str, words: str
) -> None:
    assert run("methods", method) == 0
    assert words in capsys.readouterr().out


def test_add_takes_several_models(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("unmerge", root / "all", root / "out", "--drop", "m1", "--drop", "m2")
    flags = ["--model", root / "m2", "--model", root / "m4", "--weight", "0.7", "--weight", "0.5"]
    capsys.readouterr()
    assert run("add", root / "out", root / "more", *flags, "--name", "a", "--name", "b") == 0
    assert "a, b" in capsys.readouterr().out
    names = [s.name for s in mdm_kit.verify(root / "more").manifest.sources]
    assert names == ["base", "m3", "a", "b"]


REFUSED = {
    "an unknown name": (["unmerge", "all", "out", "--drop", "m9"], 2, "no model 'm9'"),
    "no name": (["unmerge", "all", "out"], 2, "--drop"),
    "an unknown mode": (["unmerge", "all", "out", "--drop", "m1", "--mode", "x"], 2, "rebuild"),
    "the base": (["unmerge", "all", "out", "--drop", "base"], 2, "is the base"),
    "no merge": (["unmerge", "m1", "out", "--drop", "m1"], 5, "mdm_manifest.json"),
    "no folder": (["unmerge", "nowhere", "out", "--drop", "m1"], 5, "no folder"),
    "a strange place": (["unmerge", "all", "m2", "--drop", "m1"], 2, "did not write"),
    "a finished merge": (["unmerge", "all", "all", "--drop", "m1"], 2, "--overwrite"),
    "no reference": (["unmerge", "all", "out", "--drop", "m1", "--source", "m2"], 2, "NAME="),
    "another model": (
        ["unmerge", "all", "out", "--drop", "m1", "--source", "m2=m3"],
        4,
        "not the model that was merged",
    ),
    "a count": (["add", "all", "out", "--model", "m4", "--name", "a", "--name", "b"], 2, "--name"),
    "no number": (["add", "all", "out", "--model", "m4", "--weight", "nan"], 2, "finite"),
    "a bad reference": (["add", "all", "out", "--model", "a+b+c"], 2, "--model"),
    "a missing model": (["add", "all", "out", "--model", "./m7"], 5, "no such folder"),
    "a taken name": (["add", "all", "out", "--model", "m2"], 2, "--name"),
    "not kept": (["extract", "all", "base", "out"], 5, "keeps only a reference"),
    "unknown": (["extract", "all", "m9", "out"], 2, "no model 'm9'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    words, code, said = REFUSED[case]
    monkeypatch.chdir(root)
    before = sorted(p.name for p in root.iterdir())
    assert run(*words) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert sorted(p.name for p in root.iterdir()) == before


def test_a_source_that_moved(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "all")
    mdm_kit.merge(recipe(root, (1.0, 0.7)), root / "all")
    (root / "m1").rename(root / "elsewhere")
    capsys.readouterr()
    assert run("unmerge", root / "all", root / "out", "--drop", "m2") == 5
    err = capsys.readouterr().err
    assert "m1" in err
    assert "--source NAME=FOLDER" in err
    place = f"m1={root}/elsewhere"
    assert run("unmerge", root / "all", root / "out", "--drop", "m2", "--source", place) == 0
    assert run("verify", "--deep", root / "out") == 0, "the new place is remembered"


def test_nothing_of_this_machine_is_published(root: Path) -> None:
    run("add", root / "all", root / "more", "--model", root / "m4", "--weight", "0.5")
    run("unmerge", root / "more", root / "less", "--drop", "m2")
    run("unmerge", root / "more", root / "near", "--drop", "m1", "--mode", "subtract")
    for folder in ("all", "more", "less", "near"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.name != ".mdm_local.json":
                assert str(root).encode() not in path.read_bytes(), path.name
                assert root.name.encode() not in path.read_bytes(), path.name
