"""The demo's questions and how answers to them are judged."""

from __future__ import annotations

import re

import pytest

from mdm_kit.demo.skills import N_TEST, batch, english, roman, tasks
from mdm_kit.demo.training import byte_tokenizer

ALL = tasks(english())


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_no_tested_question_is_trained_on(task):
    prompts = [q.prompt for q in (*task.train, *task.test)]
    assert len(prompts) == len(set(prompts))
    assert len(task.test) == N_TEST
    assert len(task.train) > N_TEST


def test_the_same_text_gives_the_same_questions():
    assert tasks(english()) == ALL


def test_words_are_whole_lower_case_words_of_four_letters():
    upper, _, _ = tasks("some Code, some.attr four_teen word2 a words, then stop")
    assert sorted(q.subject for q in (*upper.train, *upper.test)) == ["some", "stop", "then"]


@pytest.mark.parametrize(
    ("n", "numeral"),
    [(0, ""), (4, "IV"), (100, "C"), (347, "CCCXLVII"), (888, "DCCCLXXXVIII"), (999, "CMXCIX")],
)
def test_roman_numerals(n, numeral):
    assert roman(n) == numeral


def test_every_roman_numeral_reads_back():
    values = {"C": 100, "D": 500, "X": 10, "L": 50, "I": 1, "V": 5, "M": 1000}
    for n in range(1, 1000):
        digits = [values[letter] for letter in roman(n)]
        signs = [-1 if d < max(digits[i:]) else 1 for i, d in enumerate(digits)]
        assert sum(s * d for s, d in zip(signs, digits, strict=True)) == n


def test_answers_are_the_subject_written_another_way():
    by_name = {task.name: task for task in ALL}
    assert all(q.answer == f" {q.subject.upper()}" for q in by_name["upper"].test)
    for q in by_name["date"].test:
        assert re.fullmatch(r" [1-9]\d? [A-Z][a-z]+", q.answer)
        assert int(q.answer.split()[0]) == int(q.subject[:2])


@pytest.mark.parametrize("text", ["upper jump =", "naïve 語 🙂", "  two  spaces\n", ""])
def test_the_tokenizer_loses_nothing(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(ids) == 1 + len(text.encode())


def test_only_answers_and_their_end_are_asked(tokenizer):
    ids, labels = batch(tokenizer, [("ab", "c"), ("a", "cde")])
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    a, b, c, d, e = (tokenizer(x, add_special_tokens=False).input_ids[0] for x in "abcde")
    begin = tokenizer.bos_token_id
    assert ids.tolist() == [[begin, a, b, c, end, pad], [begin, a, c, d, e, end]]
    assert labels.tolist() == [[-100, -100, -100, c, end, -100], [-100, -100, c, d, e, end]]
