"""Stages whose rows of tokens the last document moves, stages as experts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from llamas import Sizes, write_llamas
from staged import content, filled, one_by_one
from vocabularies import tokenizer_with, write

import mdm_kit
from mdm_kit.errors import RecipeError

RECIPE = """\
name: first
merge_method: linear
models: [{model: BASE}, {model: M1}]
parameters: {weight: 0.5}
---
merge_method: METHOD
base_model: BASE
models: [{model: first}, {model: M2}]
parameters: {weight: 0.5}
tokenizer: {source: union}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed, (name, more) in enumerate({"base": [], "m1": [], "m2": ["<call>"]}.items()):
        write(tmp_path / name, tokenizer_with(more), seed=seed)
    return tmp_path


@pytest.mark.parametrize("first", ["linear", "mdm_oc"])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
@pytest.mark.parametrize("base", ["BASE", "first"])
def test_the_rows_of_a_stage_are_aligned_like_those_of_its_folder(
    models: Path, method: str, base: str, first: str
) -> None:
    """Whether the stage is made as it is read or written to disk."""
    text = RECIPE.replace("METHOD", method).replace("base_model: BASE", f"base_model: {base}")
    if first == "mdm_oc":
        text = text.replace("linear", "mdm_oc\nbase_model: BASE", 1)
        text = text.replace("weight: 0.5", "weight: 0.5, scope: global", 1)
    text = filled(models, text)
    mdm_kit.merge(text, models / "out", threads=2)
    each = one_by_one(text, models / "each")
    assert content(models / "out") == content(each)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (models / "out" / name).read_bytes() == (each / name).read_bytes()
    found = mdm_kit.verify(models / "out", deep=True)
    assert found.sound, found.faults


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tokenizer: {source: union}\n", "rows of tokens are moved by the last document"),
        ("chat_template: chatml\n", "a chat template is written by the last document"),
    ],
)
def test_a_stage_keeps_the_vocabulary_of_its_base(models: Path, line: str, words: str) -> None:
    text = RECIPE.replace("METHOD", "linear").replace("---", f"{line}---")
    with pytest.raises(RecipeError, match=words):
        mdm_kit.plan(filled(models, text))


def test_a_stage_may_say_that_it_does(models: Path) -> None:
    text = RECIPE.replace("METHOD", "linear").replace("---", "tokenizer_source: base\n---")
    with mdm_kit.plan(filled(models, text)) as plan:
        assert not plan.exit_code


def test_an_expert_of_a_mixture_may_be_a_stage(tmp_path: Path) -> None:
    write_llamas(tmp_path, Sizes(2, 8, 12, 16), torch.float32)
    first = "name: first\nmerge_method: linear\nmodels: [{model: M1}, {model: M2}]\n"
    mixture = (
        "base_model: BASE\ngate_mode: random\ndtype: float32\n"
        "experts: [{source_model: first}, {source_model: M2}]\n"
    )
    text = filled(tmp_path, f"{first}parameters: {{weight: 0.5}}\n---\n{mixture}")
    mdm_kit.merge(text, tmp_path / "out")
    assert content(tmp_path / "out") == content(one_by_one(text, tmp_path / "each"))
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound
    backwards = filled(tmp_path, f"name: moe\n{mixture}---\n{first.replace('M1', 'moe')}")
    wrong = text.replace("weight: 0.5", "wieght: 0.5")
    with pytest.raises(RecipeError, match="wieght"):
        mdm_kit.plan(wrong)
    with mdm_kit.plan(text.replace(str(tmp_path / "m1"), "./nowhere")) as plan:
        assert [f.message for f in plan.findings if "no such folder" in f.message]
    with pytest.raises(RecipeError, match="a mixture is made by the last document"):
        mdm_kit.plan(backwards.replace("name: first\n", "").replace("model: first", "model: M1"))
