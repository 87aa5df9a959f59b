"""The three skills of the demo: their questions, and how well a model folder answers them.

Every skill reads a short text and writes it another way, so its answers can be checked letter by
letter and there are questions left over that no model has seen in training.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mdm_kit.demo.calm import calm_torch, transformers
from mdm_kit.errors import MdmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

N_TEST = 80
"""Questions of each skill that are kept out of training."""

LONGEST_ANSWER = 16
"""Tokens an answer may have, its end included; the longest is `DCCCLXXXVIII`."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ROMAN = (
    ("", "C", "CC", "CCC", "CD", "D", "DC", "DCC", "DCCC", "CM"),
    ("", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC"),
    ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question: the prompt a model reads, the right answer, and the text it is about."""

    prompt: str
    answer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Task:
    """A skill as data: its name, one line about it, questions to learn from and to be tested on.

    No question of `test` is in `train`.
    """

    name: str
    about: str
    train: tuple[Question, ...]
    test: tuple[Question, ...]


def english() -> str:
    """Return the English text the demo learns from: Python's own help topics, spaces joined.

    Raises MdmError on a Python that was shipped without `pydoc_data`.
    """
    try:
        from pydoc_data import topics
    except ImportError as problem:
        raise MdmError(
            "the demo learns from Python's help topics, and this Python ships without them "
            "(module pydoc_data); install the complete standard library, or use another Python"
        ) from problem
    return " ".join(" ".join(topics.topics[name].split()) for name in sorted(topics.topics))


def tasks(text: str) -> tuple[Task, ...]:
    """Return the three tasks; `text` is English, and only its four-letter words are used.

    The same text gives the same questions in the same order, on any machine.
    """
    words = sorted(set(re.findall(r"(?<![\w.])[a-z]{4}(?![\w.])", text)))
    dates = ((day, month) for month in range(1, 13) for day in range(1, 29))
    return (
        _task("upper", "a word in capitals", ((w, w.upper()) for w in words)),
        _task(
            "roman", "a number in Roman numerals", ((str(n), roman(n)) for n in range(100, 1000))
        ),
        _task(
            "date",
            "a date with the month's name",
            ((f"{d:02d}-{m:02d}", f"{d} {_MONTHS[m - 1]}") for d, m in dates),
        ),
    )


def roman(n: int) -> str:
    """Return `n`, 0 to 999, in Roman numerals; the empty string for 0."""
    digits = f"{n:03d}"
    return "".join(row[int(digit)] for row, digit in zip(_ROMAN, digits, strict=True))


def _task(name: str, about: str, pairs: Iterable[tuple[str, str]]) -> Task:
    """Return a task of `(subject, answer)` pairs, shuffled in a way that only `name` decides."""
    questions = [Question(f"{name} {subject} =", f" {a}", subject) for subject, a in pairs]
    random.Random(f"demo {name}").shuffle(questions)  # noqa: S311  a shuffle, not a secret
    return Task(name, about, tuple(questions[N_TEST:]), tuple(questions[:N_TEST]))


def score(model_folder: Path, tasks: Sequence[Task]) -> dict[str, float]:
    """Return, per task, the share of its test questions the model answers exactly, 0 to 1.

    Greedy answers, compared to the last letter. All tokens of the right answer are shown at once
    and each must be the most likely one given those before it: the same verdict as writing the
    answer token by token, for one pass through the model.
    """
    import torch

    with calm_torch(), torch.no_grad():
        model, tokenizer = _opened(model_folder)
        return {task.name: _share_right(model, tokenizer, task.test) for task in tasks}


def answers(model_folder: Path, prompts: Sequence[str]) -> list[str]:
    """Return the model's greedy answer to each prompt, without the space in front."""
    import torch

    with calm_torch(), torch.no_grad():
        model, tokenizer = _opened(model_folder)
        return [_answer(model, tokenizer, prompt) for prompt in prompts]


def batch(tokenizer: Any, rows: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Return token ids and labels of `(prompt, answer)` rows, both (rows, longest) int64.

    Labels are -100 wherever nothing is asked: on prompts and on padding. Rows are padded on the
    right, where a causal model cannot look back at the padding, so no mask is needed.
    """
    import torch

    prompts = [tokenizer(prompt).input_ids for prompt, _ in rows]
    ends = [
        [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        for _, answer in rows
    ]
    width = max(len(p) + len(e) for p, e in zip(prompts, ends, strict=True))
    ids = torch.full((len(rows), width), int(tokenizer.pad_token_id))
    labels = torch.full((len(rows), width), -100)
    for row, (prompt, end) in enumerate(zip(prompts, ends, strict=True)):
        whole = torch.tensor([*prompt, *end])
        ids[row, : len(whole)] = whole
        labels[row, len(prompt) : len(whole)] = whole[len(prompt) :]
    return ids, labels


def _opened(folder: Path) -> tuple[Any, Any]:
    """Return model (float32, whatever the files hold) and tokenizer of a folder."""
    import torch

    hf = transformers()
    model = hf.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return model.eval(), hf.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _share_right(model: Any, tokenizer: Any, questions: Sequence[Question]) -> float:
    ids, labels = batch(tokenizer, [(q.prompt, q.answer) for q in questions])
    likeliest = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)  # (rows, width - 1)
    asked = labels[:, 1:]
    return float(((likeliest == asked) | (asked == -100)).all(1).double().mean())


def _answer(model: Any, tokenizer: Any, prompt: str) -> str:
    import torch

    ids: list[int] = tokenizer(prompt).input_ids
    start = len(ids)
    while len(ids) - start < LONGEST_ANSWER:
        token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()
