"""What `config.json` has to say after layers were put together anew: edits of the keys that count.

A config states how many layers there are, and of some families what each layer is: in a list with
an item for each, in a list of layers' numbers, or by a rule that goes by the number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdm_kit.planner.sections import Stack
from mdm_kit.planner.survey import Surveyed
from mdm_kit.words import Finding, Kind, Level, shown

_COUNT = re.compile(r"(?:num_)?(?:hidden_|encoder_|decoder_)?(?:n_)?(?:layers?|blocks?)|depth")
"""num_hidden_layers, n_layer, n_layers, num_layers, encoder_layers, num_decoder_layers, depth."""

_PER_LAYER = frozenset(
    {
        "attention_layers",
        "attn_types",
        "ffn_multipliers",
        "intermediate_size",
        "layer_types",
        "layers_block_type",
        "mlp_layer_types",
        "no_rope_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "num_kv_heads",
        "num_query_heads",
        "sliding_windows",
    }
)
"""Lists with an item for each layer."""

_NUMBERS = frozenset(
    {"attn_layer_indices", "cross_attention_layers", "full_attn_idxs", "mlp_only_layers"}
    | {"hybrid_layer_ids", "moe_layers"}
)
"""Lists of the numbers of layers that are otherwise than the others."""

Kinds = Callable[[int, int], object]
"""From the value of a key and a layer's number to what kind of layer it is."""

_BY_RULE: Mapping[str, Kinds] = {
    "attn_layer_period": lambda value, i: i % value,
    "decoder_sparse_step": lambda value, i: (i + 1) % value == 0,
    "expert_layer_period": lambda value, i: i % value,
    "first_k_dense_replace": lambda value, i: i < value,
    "interleave_moe_layer_step": lambda value, i: (i + 1) % value == 0,
    "max_window_layers": lambda value, i: i < value,
    "moe_layer_freq": lambda value, i: i % value,
    "sliding_window_pattern": lambda value, i: (i + 1) % value == 0,
}
"""Keys of rules that go by a layer's number."""


@dataclass(frozen=True, slots=True)
class ConfigEdit:
    """A key of `config.json` and its new value; `path` leads to it through nested mappings."""

    path: tuple[str, ...]
    value: Any


def layer_edits(
    config: Mapping[str, Any] | None, stacks: Sequence[Stack]
) -> tuple[list[ConfigEdit], list[Finding]]:
    """Return how the donor's `config` has to change for these stacks of layers."""
    edits: list[ConfigEdit] = []
    findings: list[Finding] = []
    for stack in stacks:
        parts = list(_parts(config or {}, stack))
        if not parts and config is not None:
            findings.append(_unknown(stack))
        for path, part in parts:
            edits += _edits(path, part, stack)
            findings += _rules(path, part, stack)
    return edits, findings


def _parts(
    config: Mapping[str, Any], stack: Stack
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the mappings of a config that state how many layers the stack has."""
    sees = _is_vision(stack.name)
    nested = [((k,), v) for k, v in config.items() if isinstance(v, dict)]
    for path, part in [((), config), *nested]:
        if nested and path and _is_vision(path[0]) != sees:
            continue
        if not path and sees and any(_is_vision(p[0]) for p, _ in nested):
            continue
        if _counts(part, stack):
            yield path, part


def _is_vision(name: str) -> bool:
    return "vis" in name


def _counts(part: Mapping[str, Any], stack: Stack) -> list[str]:
    """Return the keys that state how many layers this stack has.

    Of an encoder and a decoder, that of its own name; what names neither is the encoder's.
    """
    keys = [k for k, v in part.items() if _COUNT.fullmatch(k) and v == stack.n_before]
    if "decoder" in stack.name:
        return [k for k in keys if "decoder" in k] or [k for k in keys if "encoder" not in k]
    return [k for k in keys if "decoder" not in k] if "encoder" in stack.name else keys


def _edits(path: tuple[str, ...], part: Mapping[str, Any], stack: Stack) -> Iterator[ConfigEdit]:
    counts = _counts(part, stack)
    for key, value in part.items():
        if key in counts:
            yield ConfigEdit((*path, key), len(stack.origins))
        elif key in _PER_LAYER and isinstance(value, list) and len(value) == stack.n_before:
            yield ConfigEdit((*path, key), [_item(path, key, o, value) for o in stack.origins])
        elif key in _NUMBERS and isinstance(value, list):
            kept = [_numbers(path, key, o) for o in stack.origins]
            yield ConfigEdit((*path, key), [i for i, has in enumerate(kept) if has])


def _own(path: tuple[str, ...], model: Surveyed) -> Mapping[str, Any]:
    part: Any = model.config or {}
    for key in path:
        part = part.get(key, {})
    return part if isinstance(part, dict) else {}


def _item(path: tuple[str, ...], key: str, origin: tuple[Surveyed, int], donor: list[Any]) -> Any:
    """Return what the model a layer is from says of it, else what the donor says of that number."""
    model, i = origin
    own = _own(path, model).get(key)
    known = own if isinstance(own, list) and i < len(own) else donor
    return known[min(i, len(known) - 1)]


def _numbers(path: tuple[str, ...], key: str, origin: tuple[Surveyed, int]) -> bool:
    model, i = origin
    own = _own(path, model).get(key)
    return isinstance(own, list) and i in own


def _rules(path: tuple[str, ...], part: Mapping[str, Any], stack: Stack) -> Iterator[Finding]:
    """Yield a warning for each rule that now takes a layer for another kind than it is."""
    for key, kinds in _BY_RULE.items():
        value = part.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            continue
        if key == "max_window_layers" and not part.get("use_sliding_window"):
            continue
        wrong = [
            i
            for i, (model, was) in enumerate(stack.origins)
            if isinstance(old := _own(path, model).get(key, value), int)
            if old >= 1 and kinds(value, i) != kinds(old, was)
        ]
        if wrong:
            yield Finding(
                Level.WARNING,
                Kind.MISFIT,
                f"config.json says by '{key}: {value}' what kind each layer is, and layers of the "
                f"result stand where it takes them for another kind: {_some(wrong)}",
                "cut and repeat in steps of that number, or mend the config of the result",
            )


def _unknown(stack: Stack) -> Finding:
    return Finding(
        Level.WARNING,
        Kind.MISFIT,
        f"config.json does not say in a key that is known here that {shown(stack.name)} has "
        f"{stack.n_before} layers; the result has {len(stack.origins)}, and its config must say so",
    )


def _some(layers: Sequence[int]) -> str:
    more = len(layers) - 5
    return ", ".join(map(str, layers[:5])) + (f" and {more} more" if more > 0 else "")
