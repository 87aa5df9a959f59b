"""What the screen and the card say of merges that are sums."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from continual import growing_recipe, write_growing

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.ledger.canonical import canonical, digest
from mdm_kit.ledger.manifest import sections_of

GOLDEN = Path(__file__).parents[1] / "ledger" / "golden" / "1" / "sums"


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    for name in ("base", "m1", "m2", "m3", "opcm", "covmerge"):
        shutil.copytree(GOLDEN / name, tmp_path / name)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    assert main([str(w) for w in words]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_inspect_shows_each_models_part(grown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "inspect", grown / "opcm")
    assert "model norm of its change share kept lambda unmerge --mode rebuild" in lines
    assert "m1 1.428 100.0% 1 from base and the others" in lines
    assert "m3 1.305 98.1% 1.69 from base alone" in lines
    assert "sums 1 file, with the sum before the last model" in lines
    assert any(line.startswith("one more joins the sums that are kept") for line in lines)
    assert "margin 8.373e+04 at least, in model.layers.1.self_attn.q_proj.weight" in lines
    lines = said(capsys, "inspect", grown / "covmerge")
    assert "model norm of its change unmerge --mode exact" in lines
    assert "m2 1.165 from base and m2" in lines
    assert "sums 1 file" in lines


def test_verify_shows_what_each_way_takes(grown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "verify", grown / "opcm")
    assert "m2 from base and the others" in lines
    assert "m3 from base alone" in lines
    same = "the bytes of a merge that never contained it"
    assert f"rebuild base and the others merged anew: {same}" in lines
    assert f"rebuild of m3 the sum before it, which is kept, put on the base: {same}" in lines
    assert not any("exact" in line for line in lines)
    lines = said(capsys, "verify", grown / "covmerge")
    assert "m3 from base and the others from base and m3" in lines
    assert f"exact its part taken out of the sums, which are kept: {same}" in lines
    document = json.loads("".join(said(capsys, "verify", grown / "opcm", "--json")))
    assert document["guarantees"][2]["needs"] == {"rebuild": ["base"]}


def test_the_card_says_what_happened(grown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, m1, m3 = (f"{n}={grown / n}" for n in ("base", "m1", "m3"))
    drop = ("unmerge", grown / "opcm", grown / "back", "--drop", "m3", "--source", base)
    said(capsys, *drop)
    card = (grown / "back" / "README.md").read_text()
    assert "**m3** was taken out by `rebuild`: the sum before it, which is kept, put on" in card
    anew = "`rebuild`: base and the others merged anew: the bytes of a merge that never contained"
    assert f"taken out by {anew}" not in card
    assert f"- {anew}" in card  # the next one
    assert "| m2 | 1.165 | 94.0% | 1.407 |" in card
    places = ("--source", base, "--source", m1, "--source", m3)
    said(capsys, "unmerge", grown / "opcm", grown / "anew", "--drop", "m2", *places)
    card = (grown / "anew" / "README.md").read_text()
    assert f"**m2** was taken out by {anew}" in card
    assert "- `rebuild` of m3: the sum before it, which is kept, put on the base" in card
    exact = ("unmerge", grown / "covmerge", grown / "less", "--drop", "m3", "--mode", "exact")
    said(capsys, *exact, "--source", base, "--source", m3)
    card = (grown / "less" / "README.md").read_text()
    assert "taken out by `exact`: its part taken out of the sums, which are kept" in card
    assert "one step of the dtype" not in card
    assert "Nothing is left." in card


def test_without_kept_sums_it_says_what_joining_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_growing(tmp_path, "odd", 2)
    (tmp_path / "r.yml").write_text(growing_recipe(tmp_path, "opcm", [1], keep="references"))
    assert main(["merge", str(tmp_path / "r.yml"), str(tmp_path / "one")]) == 0
    assert "1 tensors" not in capsys.readouterr().err
    lines = said(capsys, "inspect", tmp_path / "one")
    assert "sums none are kept" in lines
    assert any("what rounding cost is said; ledger: {keep: state} would" in x for x in lines)
    mdm_kit.add(tmp_path / "one", tmp_path / "two", [mdm_kit.Addition(str(tmp_path / "m2"))])
    lines = said(capsys, "inspect", tmp_path / "two")
    assert any(x.startswith("rounding ") and "of the first 1 model," in x for x in lines)
    assert any(x.startswith("margin 1.") and "may count otherwise" in x for x in lines)
    card = (tmp_path / "two" / "README.md").read_text()
    assert "What the first model holds was read back from rounded weights, with an error" in card
    assert "another machine may count otherwise" in card
    assert main(["verify", "--deep", str(tmp_path / "two")]) == 2
    assert "what its first model holds was read back" in capsys.readouterr().err


def test_one_file_and_many_are_counted_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_growing(tmp_path, "llama", 1)
    recipe = tmp_path / "r.yml"
    recipe.write_text(growing_recipe(tmp_path, "covmerge", [1]))
    assert main(["merge", str(recipe), str(tmp_path / "one")]) == 0
    assert "keeping 1 file of sums" in capsys.readouterr().err
    assert main(["merge", str(recipe), str(tmp_path / "many"), "--shard-size", "12kB"]) == 0
    assert "keeping 4 files of sums" in capsys.readouterr().err


def test_inspect_of_numbers_that_are_none_is_one_error(
    grown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = grown / "opcm" / "mdm_manifest.json"
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["sums"]["norms"].pop()
    content["history"][-1]["sections"] = sections_of(content)
    path.write_bytes(canonical({**content, "digest": digest(content)}))
    assert main(["inspect", str(grown / "opcm")]) == 4
    assert "sums: norms: expected 3 numbers, one for each model, found 2" in capsys.readouterr().err
