"""What tensor names say about an architecture; the only file that reads meaning into them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|resblocks)\.(\d{1,9})\.")
"""A repeated block as transformers names it: llama and most others `layers.N`, GPT-2 `h.N`, BERT
and ViT `layer.N`, T5 `block.N`, OpenCLIP `resblocks.N`. The first number counts; T5's
`block.3.layer.1` is block 3."""

_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|shared)\.weight$"
)
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.weight$")


@dataclass(frozen=True, slots=True)
class LayerPosition:
    """Where a tensor sits: which stack of layers (the name before the number), which index."""

    stack: str
    index: int


def layer_position(name: str) -> LayerPosition | None:
    """Return the layer a tensor belongs to, or None for embeddings, heads and final norms."""
    match = _LAYER.search(name)
    return LayerPosition(name[: match.start(1)], int(match.group(1))) if match else None


def depths(names: Iterable[str]) -> dict[str, float]:
    """Return each tensor's place t in its stack: 0 at the first layer, 1 at the last.

    Tensors outside layers have t = 0; in a stack of one layer t = 1. Both are mergekit's rules for
    layer gradients. Every stack (encoder, decoder, vision tower) counts for itself.
    """
    positions = {name: layer_position(name) for name in names}
    last: dict[str, int] = {}
    for position in positions.values():
        if position:
            last[position.stack] = max(last.get(position.stack, 0), position.index)
    return {
        name: 0.0 if p is None else 1.0 if last[p.stack] == 0 else p.index / last[p.stack]
        for name, p in positions.items()
    }


def group_of(name: str, scope: str) -> str:
    """Return which tensors `name` is solved together with: itself, its layer, or all of them."""
    if scope == "global":
        return "*"
    position = layer_position(name) if scope == "layer" else None
    return f"{position.stack}{position.index}.*" if position else name


def is_embedding(name: str) -> bool:
    """Whether a tensor holds the token embedding, one row per token."""
    return _EMBEDDING.search(name) is not None


def is_head(name: str) -> bool:
    """Whether a tensor is the output head a tied model shares with its embedding."""
    return _HEAD.search(name) is not None
