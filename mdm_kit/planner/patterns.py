"""What tensor names say about layers, embeddings, heads and towers.

`matrices` and `fused` say what they tell about linear maps, `mixtures` what experts are made of,
`quantised` what is no weight; no other file reads meaning into names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|resblocks)\.(\d{1,9})\.")
"""A repeated block as transformers names it: llama and most others `layers.N`, GPT-2 `h.N`, BERT
and ViT `layer.N`, T5 `block.N`, OpenCLIP `resblocks.N`. The first number counts; T5's
`block.3.layer.1` is block 3."""

_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|tok_embeddings|token_embedding|embed_in|shared"
    r"|embeddings?)\.weight$"
)
"""`token_embedding` is CLIP's, a bare `embeddings` Mamba's."""
_HEAD = re.compile(
    r"(?:^|\.)(?:lm_head|embed_out|generator_lm_head|vocab_projector|output_projection|output_layer"
    r"|(?:lm_head|predictions|mlm_head)\.decoder|lm_head\.(?:out_proj|linear)|pred_layer\.proj)"
    r"\.weight$"
    r"|^(?:proj_out|decoder|output)\.weight$"
)
"""Output heads over the vocabulary, as far as models tie them."""
_BEFORE_LAYERS = re.compile(
    r"emb(?!ed_out|edding_norm)"  # token, position, type and patch embeddings, and their norms
    r"|(?:^|\.)(?:wte|wpe|wse|shared|embd|tok_embeddings)\."
    r"|(?:^|\.)(?:cls|class|mask|dist\w*|query|register|reg)_tokens?$"
    r"|rotary|relative_pe|inv_freq|position_ids"
    r"|(?:^|\.)(?:ln_pre|pre_la?ye?r?norm|layernorm_pre|norm_pre)\."
    r"|(?:^|\.)(?:conv(?:_?in|_?[0-9])?|patch_\w+|project_in|input_proj\w*)\."
    r"|(?:^|\.)feature_(?:extractor|projection)\."
    r"|(?:^|\.)(?:\w*_projector|projector|\w*merger\w*|connector|resampler)\.",
    re.IGNORECASE,
)
"""What a model begins with: also Whisper's and Wav2Vec2's convolutions, norms right before the
first layer (CLIP's `pre_layrnorm`), and what stands between the towers of a vision-language model.
LFM2's `embedding_norm` is its last norm, whatever it is called."""
_AFTER_LAYERS = re.compile(
    r"(?:^|\.)(?:vocab_projector|pooler|classifier|score|cls|lm_head|head|heads|\w*_head)\."
)
"""Parts of heads and poolers that have an embedding, or what reads like one, in their names."""
_PER_TOKEN = re.compile(
    r"(?:^|\.)(?:(?:lm_head|embed_out)\.bias|final_logits_bias"
    r"|embed_tokens_per_layer\.weight|(?:predictions|lm_head)\.(?:decoder\.(?:weight|bias)|bias)"
    r"|(?:vocab_projector|generator_lm_head|decoder)\.(?:weight|bias))$"
)
"""Other tensors with a row per token where an axis is as long as the vocabulary: biases of heads,
BART's `final_logits_bias`, CLIP's and Gemma 3n's embeddings, BERT's `cls.predictions.decoder`."""


@dataclass(frozen=True, slots=True)
class LayerPosition:
    """Where a tensor sits: which stack of layers (the name before the number), which index."""

    stack: str
    index: int


def layer_position(name: str) -> LayerPosition | None:
    """Return the layer a tensor belongs to, or None for embeddings, heads and final norms."""
    match = _LAYER.search(name)
    return LayerPosition(name[: match.start(1)], int(match.group(1))) if match else None


def relayered(name: str, position: LayerPosition, index: int) -> str:
    """Return the name of the tensor that is in layer `index` what `name` is in its own."""
    start = len(position.stack)
    return f"{position.stack}{index}{name[name.index('.', start) :]}"


_MODULES = {
    "multi_modal_projector": re.compile(
        r"(?:^|\.)(?:multi_modal_projector|visual\.(?:deepstack_)?merger\w*)\."
    ),
    "vision_tower": re.compile(r"(?:^|\.)(?:vision_tower|vision_model|visual|vision)\."),
    "encoder": re.compile(r"^(?:\w+\.)?encoder\."),
    "decoder": re.compile(r"^(?:\w+\.)?decoder\."),
    "shared": re.compile(r"^(?:model\.)?shared\."),
}
"""The parts of models of several towers, by mergekit's names. The first that fits counts."""
_REST = "text_decoder"


def module_of(name: str) -> str:
    """Return the part of a model of several towers that a tensor belongs to."""
    return next((m for m, pattern in _MODULES.items() if pattern.search(name)), _REST)


def of_module(name: str, module: str) -> bool:
    """Whether a tensor belongs to a module: one of those above, or the part of names it stands for.

    A model of one tower is its own text decoder.
    """
    if module == _REST or module in _MODULES:
        return module_of(name) == module
    return f".{name}".find(f".{module.strip('.')}.") >= 0


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
    return _EMBEDDING.search(name) is not None and layer_position(name) is None


def is_head(name: str) -> bool:
    """Whether a tensor turns hidden states into scores of tokens: what a model may tie."""
    return _HEAD.search(name) is not None and layer_position(name) is None


def is_before_layers(name: str) -> bool:
    """Whether a tensor outside the layers comes before them, in its stack or its model.

    Embeddings of tokens, positions, types and patches do, with their norms and projections; final
    norms, poolers, classifiers and heads come after, and so does what no pattern knows.
    """
    if layer_position(name) is not None or is_head(name) or _AFTER_LAYERS.search(name):
        return False
    return _BEFORE_LAYERS.search(name) is not None


def may_be_per_token(name: str) -> bool:
    """Whether a tensor may hold a row per token; whether it does, the length of its axis says."""
    return is_embedding(name) or is_head(name) or _PER_TOKEN.search(name) is not None
