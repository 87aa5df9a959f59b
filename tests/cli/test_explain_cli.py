"""`mdm-kit plan --explain`: the table, and every tensor's values in the document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from families import write_family

from mdm_kit.cli.main import main


def row(table: str, *words: str) -> str:
    """The one line of a table that holds all the words."""
    (line,) = [ln for ln in table.splitlines() if all(word in ln for word in words)]
    return " ".join(line.split())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_family(tmp_path, n=3)
    path = tmp_path / "recipe.yml"
    path.write_text(
        f"merge_method: task_arithmetic\nbase_model: {tmp_path}/base\nmodels:\n"
        f"  - model: {tmp_path}/m1\n    parameters:\n"
        "      weight: [{filter: mlp, value: [0.2, 0.6]}, {filter: norm, value: 0.1}]\n"
        f"  - model: {tmp_path}/m2\n"
        f"  - model: {tmp_path}/m3\n"
        "parameters: {weight: 0.5, normalize: [no, yes]}\n"
    )
    return path


def test_the_table(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(recipe)]) == 0
    plain = capsys.readouterr().out
    assert main(["plan", str(recipe), "--explain"]) == 0
    table = capsys.readouterr().out.removeprefix(plain)
    up = "model.layers.*.mlp.up.weight 0-2 0.2 … 0.6"
    assert row(table, "filter mlp") == f"weight m1 the model, filter mlp {up}"
    norm = "model.layers.*.norm.weight all 0.1"
    assert row(table, "filter norm") == f"weight m1 the model, filter norm {norm}"
    assert " and 3 more " in row(table, "weight", "m1", "the recipe")
    assert row(table, "m2, m3") == "weight m2, m3 the recipe every tensor all 0.5"
    assert row(table, "model.layers.*", "0-1 ") == (
        "normalize the merge the recipe model.layers.* 0-1 false"
    )
    assert row(table, "lambda") == "lambda the merge default every tensor all 1"
    assert table.endswith("copied as they are, not being floating point: 2 tensor(s)\n")


def test_every_tensor_in_the_document(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(recipe), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["plan", str(recipe), "--explain", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    values = document.pop("values")
    assert document == plain
    middle = values["model.layers.1.mlp.up.weight"]
    assert middle["weight"] == {"m1": pytest.approx(0.4), "m2": 0.5, "m3": 0.5}
    assert middle["lambda"] == 1.0
    merged = [t["name"] for s in plain["shards"] for t in s["tensors"] if "apply" in t]
    assert sorted(values) == sorted(merged)


def test_models_alike_and_methods_without_parameters(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(
        f"merge_method: linear\nmodels: [{{model: {tmp_path}/m1}}, {{model: {tmp_path}/m2}}]\n"
        "parameters: {weight: 1}\n"
    )
    assert main(["plan", str(recipe), "--explain"]) == 0
    assert "every model" in row(capsys.readouterr().out, "weight", "the recipe")
    recipe.write_text(
        f"merge_method: arcee_fusion\nbase_model: {tmp_path}/base\n"
        f"models: [{{model: {tmp_path}/m1}}]\n"
    )
    assert main(["plan", str(recipe), "--explain"]) == 0
    assert "arcee_fusion has no parameters" in capsys.readouterr().out


def test_nothing_is_explained_of_a_plan_with_errors(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(recipe.read_text().replace("/m3", "/absent"))
    assert main(["plan", str(recipe), "--explain", "--json"]) == 5
    assert "values" not in json.loads(capsys.readouterr().out)
    assert main(["plan", str(recipe), "--explain"]) == 5
    assert capsys.readouterr().out == ""
