"""Which tensors hold linear maps, by name and shape; `fused` says how they lie inside.

A method that works on linear maps takes each by itself and lets every other tensor pass. Names and
shapes do not tell every table from a weight: what is not surely a weight passes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from mdm_kit.maths.matrix import Matrix
from mdm_kit.planner.fused import (
    Config,
    Shapes,
    configs_in,
    is_pack,
    is_turned_parameter,
    matrices_in,
)
from mdm_kit.planner.patterns import is_embedding, is_head

_WEIGHT = re.compile(r"\.weight$|(?:^|\.)(?:in|q|k|v)_proj_weight$")
"""What nn.Linear, and nn.MultiheadAttention without it, call their maps."""
_TABLE = re.compile(
    r"emb(?!.*(?:proj|dense|linear|transform|mapping|out))|^wte$|^wpe$|^shared$|_tokens?$|codebook"
    r"|relative_attention_bias|rel_pos_bias|norm|^ln_",
    re.IGNORECASE,
)
"""Last parts of the names of embeddings (token, position, type, patch) and two-dimensional norms.
`embedding_projection` and its like are linear maps."""
_ROUTER = re.compile(r"(?:^|[._])router(?:[._]|$)")
_GATE = re.compile(r"^(.*?)\.(?:gate|shared_expert_gate)(?:\.[a-z]+)?\.weight$")
"""A router too, where experts stand beside it; elsewhere a gate is a projection."""
_LORA = re.compile(r"(?:^|[._])lora(?:[._]|$)", re.IGNORECASE)
_SIDE_EMBEDDING = re.compile(r"^(.*?)(?:en|de)coder\.embed_tokens\.weight$")


class Matrices:
    """The linear maps of a checkpoint's tensors.

    `shapes` holds every tensor of the checkpoint, `config` its config.json. `patterns` replaces the
    choice of tensors: each is a part of a name, or with any of `*?[` a glob for the whole name.
    """

    def __init__(
        self, shapes: Shapes, config: Config | None, patterns: Sequence[str] | None
    ) -> None:
        """Look over the names."""
        self._shapes = shapes
        self._patterns = patterns
        self._configs = configs_in(config)
        self._tied = ties(config)
        self._with_experts = {
            name[: at.start()] for name in shapes if (at := re.search(r"\.experts\.", name))
        }

    def of(self, name: str) -> tuple[Matrix, ...]:
        """Return a tensor's linear maps, each of its elements in one; () if it has none."""
        if not self._has_room(name):
            return ()
        if self._patterns is None:
            chosen = self._is_linear(name)
        else:
            chosen = any(_chooses(pattern, name) for pattern in self._patterns)
        return matrices_in(name, self._shapes, self._configs) if chosen else ()

    def idle(self) -> list[str]:
        """Return the patterns that choose no tensor of two dimensions or more."""
        names = [name for name in self._shapes if self._has_room(name)]
        return [p for p in self._patterns or () if not any(_chooses(p, name) for name in names)]

    def _has_room(self, name: str) -> bool:
        shape = self._shapes[name]
        return len(shape) > 1 and 0 not in shape

    def _is_linear(self, name: str) -> bool:
        """Whether a tensor is known as a linear weight, and is no router, table or tied head."""
        shape = self._shapes[name]
        if is_pack(name, shape) or is_turned_parameter(name):
            return True
        if len(shape) != 2 or not _WEIGHT.search(name):
            return False
        if is_head(name):
            return not self._tied
        return not (_TABLE.search(_module(name)) or _LORA.search(name) or self._is_router(name))

    def _is_router(self, name: str) -> bool:
        gate = _GATE.search(name)
        return _ROUTER.search(name) is not None or (gate and gate[1]) in self._with_experts


def ties(config: Config | None) -> bool:
    """Whether a config says that head and embedding are one tensor; without a config, no.

    transformers 4 wrote `tie_word_embeddings` where it was false, and took silence for true.
    """
    parts = configs_in(config)
    stated = [part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part]
    if parts and not stated:
        version = re.match(r"\d{1,4}", str(parts[0].get("transformers_version", "")))
        return version is None or int(version[0]) < 5
    return any(stated)


def is_tied_copy(name: str, names: Collection[str], config: Config | None) -> bool:
    """Whether a tensor repeats an embedding of the same checkpoint, and so counts only there.

    It is the head of a model that ties it, or an encoder's or decoder's copy of T5's `shared`.
    """
    side = _SIDE_EMBEDDING.search(name)
    if side and f"{side[1]}shared.weight" in names:
        return True
    if not is_head(name) or not ties(config):
        return False
    return any(is_embedding(n) for n in names)


def _module(name: str) -> str:
    """Return the last part of a name that is neither `weight` nor a number."""
    parts = name.removesuffix(".weight").split(".")
    return next((part for part in reversed(parts) if not part.isdigit()), "")


def _chooses(pattern: str, name: str) -> bool:
    if any(c in pattern for c in "*?["):
        return fnmatchcase(name, pattern)
    return pattern in name
