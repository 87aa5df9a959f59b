"""An adapter's adapter_config.json, as PEFT writes it: what is read, what is refused by name.

Only plain LoRA is W + s·B·A. What PEFT has built on it needs more than its two factors, and is
refused with its name rather than read as if it were plain.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources.strict_json import strict_json
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

ADAPTER_CONFIG = "adapter_config.json"

_KINDS: dict[str, str] = {
    "use_dora": "DoRA, which scales every row by its norm",
    "use_qalora": "QA-LoRA, which adapts groups of inputs",
    "use_bdlora": "block-diagonal LoRA",
    "layer_replication": "copies of layers",
    "trainable_token_indices": "tokens of its own",
    "target_parameters": "parameters adapted without their module",
    "alora_invocation_tokens": "an adapter that acts from a certain token on",
    "arrow_config": "a router between adapters",
    "kasa_config": "KaSA, which changes the base's singular values",
    "monteclora_config": "a random draw of weights",
}
"""Keys of PEFT for what is no W + s·B·A, where they hold anything."""
_BASE_CHANGED = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Ways to begin that take the adapter's first values out of the base: the weights belong to a base
that nobody published."""
_PATTERN = re.compile(r"(?:[\w.^$|()\-]|\\[.dw]|(?<=[.\]dw])[*+]|\[[\w\-]{1,40}\]){1,300}")
"""Patterns for modules that are matched: what could run for hours is not."""
_MOST_REPEATS = 2


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter says of itself.

    `base` is the model it was trained on, as its trainer called it, at `revision`. `turned` says
    that the adapted weights are stored as (in, out). `ranks` and `alphas` hold exceptions from
    `rank` and `alpha` by pattern of the module.
    """

    base: str | None
    revision: str | None
    turned: bool
    rank_stabilised: bool
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]

    def rank_of(self, module: str) -> int:
        """Return the rank a module's factors are to have."""
        return _first(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """Return s of a module: α / r, or α / √r where the rank is stabilised."""
        alpha, rank = _first(self.alphas, module, self.alpha), self.rank_of(module)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def _first(patterns: Mapping[str, T], module: str, default: T) -> T:
    """Return the value of the first pattern that fits a module's name or its end, as in PEFT."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_adapter_config(name: str, data: bytes) -> AdapterConfig:
    """Return what `data`, the file's bytes, says of the adapter in the model called `name`.

    Raises `IntegrityError` for what no trainer writes, `SourceError` for a kind of adapter that is
    not read.
    """
    where = at(name, ADAPTER_CONFIG)
    config = strict_json(data, where)
    if not isinstance(config, dict):
        raise IntegrityError(f"{where}: expected a JSON object, found {type(config).__name__}")
    _refuse_kinds(where, config)
    rank = _number(where, "r", config.get("r", 8))
    alpha = _number(where, "lora_alpha", config.get("lora_alpha", 8))
    return AdapterConfig(
        base=_text(config.get("base_model_name_or_path")),
        revision=_text(config.get("revision")),
        turned=config.get("fan_in_fan_out") is True,
        rank_stabilised=config.get("use_rslora") is True,
        rank=_rank(where, "r", rank),
        alpha=alpha,
        ranks={p: _rank(where, p, v) for p, v in _patterns(where, config, "rank_pattern").items()},
        alphas=_patterns(where, config, "alpha_pattern"),
    )


def _refuse_kinds(where: str, config: Mapping[str, object]) -> None:
    kind = config.get("peft_type")
    found = None
    if kind != "LORA":
        found = shown(str(kind), 40)
    for key, what in _KINDS.items():
        if config.get(key):
            found = f"{what} ({key})"
    started = str(config.get("init_lora_weights") or "").lower()
    if started.startswith(_BASE_CHANGED):
        found = (
            f"init_lora_weights: {shown(started, 40)}, whose factors belong to a base that was "
            "changed with them; save it with path_initial_model_for_weight_conversion"
        )
    if found:
        raise SourceError(
            f"{where}: expected a plain LoRA adapter, W + s·B·A, found {found}. "
            "Merge the adapter into its base with PEFT first, and name the merged model"
        )


def _patterns(where: str, config: Mapping[str, object], key: str) -> dict[str, float]:
    given = config.get(key) or {}
    if not isinstance(given, dict):
        raise IntegrityError(f"{where}: {key}: expected an object, found {type(given).__name__}")
    found = {}
    for pattern, value in given.items():
        repeats = sum(pattern.count(c) for c in "*+")
        fits = _PATTERN.fullmatch(pattern) is not None and repeats <= _MOST_REPEATS
        if not fits or not _compiles(pattern):
            raise SourceError(
                f"{where}: {key}: expected names of modules, found the pattern "
                f"'{shown(pattern, 80)}', which is not read; write out the modules it is for"
            )
        found[pattern] = _number(where, f"{key}, {shown(pattern, 80)}", value)
    return found


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _number(where: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise IntegrityError(f"{where}: {key}: expected a number, found {shown(repr(value), 40)}")
    return cast("float", value)


def _rank(where: str, key: str, value: float) -> int:
    if value != int(value) or value < 1:
        raise IntegrityError(
            f"{where}: {key}: expected a rank of at least 1, found {value:g}; "
            "an adapter without rank changes nothing"
        )
    return int(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
