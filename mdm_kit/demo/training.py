"""Trains the demo's models: a byte tokenizer, a three-layer Llama, AdamW.

The base reads English and sees the skills' questions, mostly with the question's own text for an
answer (`roman 347 = 347`) and sometimes with the right one. So it could answer and does not, as a
pre-trained model could do much that only a fine-tune brings out. That is what makes merging work:
fine-tunes that change little and each in its own direction add up; fine-tunes that had to learn a
skill from nothing destroy one another.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mdm_kit.demo.calm import transformers
from mdm_kit.demo.skills import Question, Task, batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

_CONTEXT = 64
_TEXT_WIDTH, _TEXT_ROWS = 48, 12
_LOG_STEPS = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides the demo's weights, apart from library versions.

    Steps, rows per step and learning rates are of the base and of each skill; `right` is the
    share of right answers the base sees. `initializer_range` is wider than a large model's 0.02:
    at this width 0.02 starts attention too flat, and it learns to copy three times slower.
    """

    base_steps: int = 400
    skill_steps: int = 60
    rows: int = 32
    base_rate: float = 2e-3
    skill_rate: float = 3e-4
    right: float = 0.35
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    initializer_range: float = 0.05
    seed: int = 0


def byte_tokenizer() -> Any:
    """Return a tokenizer of 256 bytes and three special tokens, 259 in all; every text round-trips.

    It writes `<|begin|>` in front of a text; `<|end|>` ends an answer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    special = ["<|begin|>", "<|end|>", "<|pad|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], 0)]
    )
    return transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[1],
        pad_token=special[2],
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: Any, settings: Settings) -> Any:
    """Return an untrained Llama in float32 with a tied head, from torch's current random state."""
    hf = transformers()
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=2 * settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=_CONTEXT,
        initializer_range=settings.initializer_range,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},  # positions here end at 64
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return hf.LlamaForCausalLM(config)


def train_base(
    model: Any,
    tokenizer: Any,
    text: str,
    tasks: tuple[Task, ...],
    settings: Settings,
    progress: Callable[[str], None],
) -> None:
    """Train `model` in place: every fourth step on English, the others on hinted questions."""
    import torch

    draw = random.Random(f"base {settings.seed}")  # noqa: S311  chooses rows, guards nothing
    letters = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def rows(step: int) -> tuple[Tensor, Tensor]:
        if step % 4 == 3:
            starts = (draw.randrange(len(letters) - _TEXT_WIDTH) for _ in range(_TEXT_ROWS))
            ids = torch.stack([letters[s : s + _TEXT_WIDTH] for s in starts])  # (rows, width)
            return ids, ids
        asked = [draw.choice(draw.choice(tasks).train) for _ in range(settings.rows)]
        return batch(tokenizer, [_hinted(q, draw, settings.right) for q in asked])

    _descend(model, rows, settings.base_steps, settings.base_rate, _named(progress, "base"))


def train_skill(
    model: Any,
    tokenizer: Any,
    task: Task,
    settings: Settings,
    progress: Callable[[str], None],
) -> None:
    """Fine-tune every weight of `model` in place on one task's training questions."""
    draw = random.Random(f"{task.name} {settings.seed}")  # noqa: S311  chooses rows

    def rows(step: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001  every step draws alike
        asked = [draw.choice(task.train) for _ in range(settings.rows)]
        return batch(tokenizer, [(q.prompt, q.answer) for q in asked])

    _descend(model, rows, settings.skill_steps, settings.skill_rate, _named(progress, task.name))


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary Hugging Face folder in float32: a merge can then be checked to the bit."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _hinted(question: Question, draw: random.Random, right: float) -> tuple[str, str]:
    """Return prompt and answer: the right one in a share of `right`, else the question's text."""
    answer = question.answer if draw.random() < right else f" {question.subject}"
    return question.prompt, answer


def _named(progress: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda line: progress(f"{name}: {line}")


def _descend(
    model: Any,
    rows: Callable[[int], tuple[Tensor, Tensor]],
    steps: int,
    rate: float,
    progress: Callable[[str], None],
) -> None:
    """Train for `steps` with AdamW: a short warm-up, then a straight line to zero."""
    import torch
    from torch.nn.functional import cross_entropy

    model.train()
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    warm_up = min(20, max(1, steps // 6))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warm_up) * (1 - step / steps)
        ids, labels = rows(step)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]  # (rows, width - 1, tokens)
        loss: Any = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % _LOG_STEPS == 0 or step + 1 == steps:
            progress(f"step {step + 1} of {steps}, loss {loss.item():.2f}")
    model.eval()
