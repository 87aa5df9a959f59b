"""Tiny models of transformers and fine-tunes of them, on disk."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_models import build
from torch import Tensor, nn

Step = Callable[[str, Tensor, torch.Generator], Tensor | None]
"""What is added to a parameter of this name, if anything."""


def low_rank(rank: int, size: float = 0.3) -> Step:
    """Add a random change of `rank` to every matrix of the layers."""

    def step(name: str, weight: Tensor, numbers: torch.Generator) -> Tensor | None:
        if weight.dim() != 2 or not any(char.isdigit() for char in name):
            return None
        left = torch.randn(weight.shape[0], rank, generator=numbers)
        return size * left @ torch.randn(rank, weight.shape[1], generator=numbers) / rank

    return step


def everything(name: str, weight: Tensor, numbers: torch.Generator) -> Tensor | None:
    """Add a random change to every parameter."""
    return 0.1 * torch.randn(weight.shape, generator=numbers)


def write_pair(family: str, folder: Path, step: Step) -> nn.Module:
    """Write folder/base and folder/tuned; returns the tuned model."""
    base = build(family)
    base.save_pretrained(folder / "base")
    tuned = copy.deepcopy(base)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            change = step(name, weight, numbers)
            if change is not None:
                weight.add_(change)
    tuned.save_pretrained(folder / "tuned")
    return tuned
