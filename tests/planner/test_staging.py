"""Plans of several documents: all that is wrong at once, and what a stage is to those after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import fine_tuned, read_model, write_family, write_model
from llamas import Sizes, config, llama
from staged import content, filled, one_by_one

import mdm_kit
from mdm_kit.errors import RecipeError
from mdm_kit.planner.originals import originals_of
from mdm_kit.sources import FolderSource
from mdm_kit.words import Level

TWO = """\
name: first
merge_method: linear
models: [{model: M1}, {model: M2}]
parameters: {weight: 0.5}
dtype: bfloat16
---
merge_method: task_arithmetic
base_model: BASE
models: [{model: first}, {model: M3}]
parameters: {weight: 0.5}
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planned")
    write_family(root, n=3)
    return root


def test_a_stage_has_the_headers_and_side_files_of_its_folder(family: Path, tmp_path: Path) -> None:
    text = filled(family, TWO)
    first, last = text.split("---\n")
    mdm_kit.merge(first, tmp_path / "first", shard_nbytes=3000)
    folder = FolderSource("first", tmp_path / "first")
    with mdm_kit.plan(text, shard_nbytes=3000) as plan:
        (stage,) = plan.stages
        assert stage.streams
        assert stage.source.headers() == folder.headers()
        assert set(stage.source.side_files()) == set(folder.side_files())
        for name in folder.side_files():
            assert stage.source.side_file(name) == folder.side_file(name)
    folder.close()
    with mdm_kit.plan(last.replace("first", str(tmp_path / "first"))) as alone:
        assert alone.writes[0].name == plan.writes[0].name
        assert [w.name for w in alone.writes] == [w.name for w in plan.writes]


def test_models_are_opened_once_and_listed_once(family: Path) -> None:
    with mdm_kit.plan(filled(family, TWO.replace("M3", "M1"))) as plan:
        found = originals_of(plan)
        assert [(s.name, s.role) for s in found] == [
            ("m1", "model"), ("m2", "model"), ("base", "base"),
        ]  # fmt: skip
        assert plan.source("m1").source is plan.stages[0].plan.source("m1").source


def test_everything_wrong_in_any_document_is_said_at_once(family: Path, tmp_path: Path) -> None:
    odd = read_model(family / "m1")
    odd["model.cube"] = odd["model.cube"].transpose(0, 1).contiguous()
    write_model(tmp_path / "odd", odd)
    text = TWO.replace("M2", str(tmp_path / "odd")).replace("M3", "./nowhere")
    with mdm_kit.plan(filled(family, text)) as plan:
        found = {f.place.line: f.message for f in plan.findings if f.place and f.level == "error"}
        assert not plan.shards
        assert not plan.stages
    assert "of another shape" in found[3]
    assert "no such folder" in found[9]


def test_wrong_parameters_of_a_stage_are_said_before_its_models(family: Path) -> None:
    text = filled(family, TWO).replace("weight: 0.5}\ndtype", "wieght: 0.5}\ndtype")
    with pytest.raises(RecipeError, match="no parameter 'wieght'"):
        mdm_kit.plan(text)


def test_a_stage_wins_over_a_folder_of_its_name(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").symlink_to(family / "base")
    text = filled(family, TWO)
    with mdm_kit.plan(text) as plan:
        (note,) = [f for f in plan.findings if "not the folder" in f.message]
        assert (note.level, note.place and note.place.line) == (Level.NOTE, 1)
    mdm_kit.merge(text, tmp_path / "out")
    assert content(tmp_path / "out") == content(one_by_one(text, tmp_path / "each"))


def test_the_digest_is_that_of_all_documents(family: Path) -> None:
    digests = set()
    for text in (TWO, TWO.replace("0.5}\ndtype", "0.25}\ndtype"), TWO.replace("first", "f")):
        with mdm_kit.plan(filled(family, text)) as plan:
            digests.add(plan.digest)
            json.dumps(plan.to_json())
    with mdm_kit.plan(filled(family, TWO), threads=7, memory_nbytes=10**6) as plan:
        assert plan.digest in digests
    assert len(digests) == 3


def test_compatible_stages_go_through_disk(family: Path, tmp_path: Path) -> None:
    text = filled(family, TWO)
    with mdm_kit.plan(text, compat="mergekit") as plan:
        assert [s.streams for s in plan.stages] == [False]
    mdm_kit.merge(text, tmp_path / "out", compat="mergekit")
    wanted = one_by_one(text, tmp_path / "each", compat="mergekit")
    assert content(tmp_path / "out") == content(wanted)
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


SIZES = Sizes(2, 8, 12, 16)
TIED = """\
name: first
merge_method: linear
models: [{model: M1WEIGHED}, {model: M2}]
parameters: {weight: 0.5}
---
merge_method: passthrough
models: [{model: first}]
"""
ALIKE = TIED.replace("WEIGHED", "")
UNLIKE = TIED.replace(
    "WEIGHED", ", parameters: {weight: [{filter: lm_head, value: 0.9}, {value: 0.5}]}"
)


def tied_llamas(root: Path, stated: bool | None) -> Path:
    """Models whose head is their embedding, whatever their config says."""
    base = llama(SIZES, torch.bfloat16)
    for i in (1, 2):
        model = fine_tuned(base, i)
        model["lm_head.weight"] = model["model.embed_tokens.weight"].clone()
        said = config(SIZES, torch.bfloat16) | {"tie_word_embeddings": stated}
        if stated is None:
            del said["tie_word_embeddings"]
        write_model(root / f"m{i}", model, config=said)
    return root


@pytest.mark.parametrize("stated", [True, False, None])
@pytest.mark.parametrize("recipe", [ALIKE, UNLIKE], ids=["alike", "unlike"])
def test_what_the_config_says_of_ties_follows_the_weights(
    tmp_path: Path, stated: bool | None, recipe: str
) -> None:
    """A head that is merged otherwise than its embedding is no copy of it any more."""
    text = filled(tied_llamas(tmp_path, stated), recipe)
    mdm_kit.merge(text, tmp_path / "out")
    assert content(tmp_path / "out") == content(one_by_one(text, tmp_path / "each"))
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert said.get("tie_word_embeddings") is (stated if recipe is ALIKE else False)


def test_a_method_that_asks_for_ties_does_not_guess(tmp_path: Path) -> None:
    text = ALIKE.replace("passthrough", "opcm\nbase_model: first").replace(
        "{model: first}", "{model: M1}"
    )
    with pytest.raises(RecipeError, match="only known once it is made"):
        mdm_kit.plan(filled(tied_llamas(tmp_path / "tied", stated=True), text))
    with mdm_kit.plan(filled(tied_llamas(tmp_path / "untied", stated=False), text)) as plan:
        assert not plan.exit_code
