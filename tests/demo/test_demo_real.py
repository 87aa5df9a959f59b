"""The whole family, really trained: the base fails, fine-tunes succeed, a merge keeps all three."""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file

from mdm_kit.demo.family import build_family
from mdm_kit.demo.recipe import WEIGHT
from mdm_kit.demo.skills import answers, score

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return build_family(tmp_path_factory.mktemp("demo") / "models", print)


def merged(family, weight, folder):
    """Write base + weight · Σ(skill - base) by plain formula; return its scores."""
    shutil.copytree(family.base, folder)
    base = load_file(family.base / "model.safetensors")
    skills = [load_file(skill.folder / "model.safetensors") for skill in family.skills]
    total = {n: b + weight * sum(s[n] - b for s in skills) for n, b in base.items()}
    save_file(total, folder / "model.safetensors", metadata={"format": "pt"})
    return score(folder, family.tasks)


def test_merging_adds_skills(family, tmp_path):
    base = score(family.base, family.tasks)
    own = {skill.name: score(skill.folder, family.tasks) for skill in family.skills}
    average = merged(family, 1 / len(family.skills), tmp_path / "average")
    sum_ = merged(family, WEIGHT, tmp_path / "sum")
    for name in base:
        assert base[name] < 0.3
        assert own[name][name] > 0.8
        assert all(own[name][other] < 0.6 for other in base if other != name)
        assert average[name] > base[name] + 0.2
        assert sum_[name] > base[name] + 0.4
    assert sum(base.values()) < sum(average.values()) < sum(own[n][n] for n in base)


def test_scores_are_what_greedy_answers_say(family):
    for skill in family.skills:
        questions = skill.task.test[:20]
        written = answers(skill.folder, [q.prompt for q in questions])
        right = sum(a == q.answer.strip() for a, q in zip(written, questions, strict=True))
        assert right >= 16


def test_transformers_generates_the_answer_and_stops(family):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    date = family.skills[2]
    model = AutoModelForCausalLM.from_pretrained(date.folder)
    tokenizer = AutoTokenizer.from_pretrained(date.folder)
    question = tokenizer("date 04-11 =", return_tensors="pt")
    written = model.generate(**question, max_new_tokens=20, do_sample=False)
    text = "<|begin|>date 04-11 = 4 November<|end|>"
    assert tokenizer.decode(written[0]) == text
