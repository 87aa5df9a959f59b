"""What is asked of a real model folder, merged or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from real_models import answer_loss, embed
from safetensors.torch import load_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from real_models import Pairs
    from torch import Tensor

RELATED = (
    ("A man is playing a guitar on stage.", "Someone performs music before an audience."),
    ("The cat sleeps on the sofa.", "A kitten is napping on a couch."),
    ("Interest rates were raised by the central bank.", "The bank made borrowing money dearer."),
    ("How do I sort a list in Python?", "Ordering the elements of a Python list."),
)


@torch.no_grad()
def embedding_margin(folder: Path) -> float:
    """Return how much closer the least close related pair is than the closest unrelated one.

    A cosine difference; above zero, every sentence's partner is nearer than any stranger.
    """
    left, right = _embedded(folder, RELATED)
    cosines = left @ right.T  # (sentences, sentences)
    related = torch.eye(len(RELATED), dtype=torch.bool)
    return float(cosines[related].min() - cosines[~related].max())


@torch.no_grad()
def retrieval(folder: Path, pairs: Pairs) -> float:
    """Return the share of texts whose partner is the nearest of all partners."""
    left, right = _embedded(folder, pairs)
    nearest = (left @ right.T).argmax(-1)
    return float((nearest == torch.arange(len(pairs))).double().mean())


def _embedded(folder: Path, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    left, right = (embed(model, tokenizer, side) for side in zip(*pairs, strict=True))
    return left, right


class Writer:
    """A causal language model, loaded in float32: bfloat16 products crawl on most CPUs."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def greedy(self, prompt: str, n_tokens: int = 8) -> str:
        """Return what the model writes after `prompt`."""
        read = self.tokenizer(prompt, return_tensors="pt")
        written = self.model.generate(**read, max_new_tokens=n_tokens, do_sample=False)
        return self.tokenizer.decode(written[0][read["input_ids"].shape[1] :])

    @torch.no_grad()
    def loss(self, pairs: Pairs) -> float:
        """Return the mean loss of the answers' tokens, in nats."""
        return float(answer_loss(self.model, self.tokenizer, pairs))


def stored(folder: Path) -> dict[str, Tensor]:
    """Return every weight of a model folder, from one file or from shards."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(file)
    return tensors


def weighted_mean(folders: Sequence[Path], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return Σ wᵢ·xᵢ / Σ wᵢ of every float tensor, in float64."""
    models = [stored(folder) for folder in folders]
    return {
        name: sum(w * m[name].double() for w, m in zip(weights, models, strict=True)) / sum(weights)
        for name, tensor in models[0].items()
        if tensor.is_floating_point()
    }


def base_and_deltas(
    base: Path, folders: Sequence[Path], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Return base + Σ wᵢ·(xᵢ - base) of every float tensor, in float64."""
    origin, models = stored(base), [stored(folder) for folder in folders]
    return {
        name: b.double()
        + sum(w * (m[name].double() - b.double()) for w, m in zip(weights, models, strict=True))
        for name, b in origin.items()
        if b.is_floating_point()
    }


def ulp(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the spacing of `dtype`'s numbers at each element of `x`, in float64."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(x.double().abs().clamp(min=info.smallest_normal))
    return torch.ldexp(torch.full_like(x, info.eps, dtype=torch.float64), exponent - 1)


def assert_float32_merge(got: Tensor, want: Tensor, origin: Tensor) -> None:
    """Assert ‖got - want‖ ≤ 1e-5·‖want - origin‖ plus half a unit in every last place."""
    assert got.dtype is torch.float32
    slack = 1e-5 * (want - origin.double()).norm() + 0.5 * ulp(want, torch.float32).norm()
    assert (got.double() - want).norm() <= slack


def assert_bfloat16_merge(got: Tensor, want: Tensor, magnitude: Tensor) -> None:
    """Assert every element is within a step of the right rounding, plus 2⁻²²·`magnitude`.

    `magnitude` is Σ|wᵢ·xᵢ| over base and models: what float32 sums could have cancelled.
    """
    assert got.dtype is torch.bfloat16
    rounded = want.to(torch.bfloat16).double()
    step = ulp(rounded, torch.bfloat16)
    assert ((got.double() - rounded).abs() <= step + 2.0**-22 * magnitude).all()
    exact = (got.double() == rounded).double().mean()
    assert exact > 0.999  # a step off is allowed for ties that float32 broke, not as a habit
