"""Extracts a LoRA: from two models to a folder that peft loads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mdm_kit.adapters.card import write_card
from mdm_kit.adapters.changes import Change, Keeping, changes, whole_change
from mdm_kit.adapters.config import CONFIG_NAME, Named, adapter_config
from mdm_kit.adapters.experts import expert_notes
from mdm_kit.adapters.extracted import ExtractedLora, Other, Pair
from mdm_kit.adapters.fitting import Fit, told
from mdm_kit.adapters.modules import Modules
from mdm_kit.adapters.naming import architecture
from mdm_kit.adapters.writing import WEIGHTS_NAME, Factors, write_weights
from mdm_kit.bundle.new_folder import new_folder
from mdm_kit.bundle.stage import Stage
from mdm_kit.errors import UsageError
from mdm_kit.run.freed import give_back_large_blocks
from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be extracted, and from what, as the caller named it."""

    keeping: Keeping
    save_modules: bool
    model: Named
    base: Named


def extract_lora(
    fit: Fit,
    out: Path,
    wanted: Wanted,
    threads: int,
    advance: Callable[[int], object] = lambda _: None,
) -> ExtractedLora:
    """Write what the model of `fit` changed as a LoRA to the folder `out`, whole or not at all.

    `advance` is told of bytes read. Raises `UsageError` where no linear weight changed or `out`
    holds something, `NotFiniteError` for a NaN or an infinity, `RoomError` where the disk refuses,
    and what reading raises.
    """
    give_back_large_blocks()
    with new_folder(out) as stage:
        return _written(fit, stage, wanted, threads, advance)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What goes in besides factors.

    `tensors` are those of the base that are in it. `rows` are tensors of the model by the name of
    each in transformers' model, `modules` their modules; `tied` if one of them is there twice.
    `biases` are those of all linear modules with factors, by weight, where they are in it.
    """

    tensors: frozenset[str] = frozenset()
    rows: tuple[tuple[str, TensorInfo], ...] = ()
    modules: tuple[str, ...] = ()
    tied: bool = False
    biases: Mapping[str, str] = field(default_factory=dict)


def _written(
    fit: Fit, stage: Stage, wanted: Wanted, threads: int, advance: Callable[[int], object]
) -> ExtractedLora:
    modules = Modules(fit.base)
    spilled = stage.work / "factors"
    with spilled.open("wb") as file:
        factors = Factors(file)
        with contextlib.closing(changes(fit, modules, wanted.keeping, threads, advance)) as found:
            pairs, others, turned = _taken(found, factors)
        whole = _whole(fit, modules, pairs, others) if wanted.save_modules else _Whole()
        for pair in pairs if whole.biases else ():
            bias = whole_change(fit, whole.biases[pair.tensor]).to(wanted.keeping.dtype)
            factors.add_bias(pair.module, bias)
    path = stage.model / WEIGHTS_NAME
    nbytes = write_weights(path, factors, spilled, whole.rows, fit.model.source)
    base = fit.base.config or {}
    config = adapter_config(
        wanted.base,
        base,
        pairs,
        sorted(modules.names),
        whole.modules,
        turned=turned,
        tied=whole.tied,
        biased=bool(whole.biases),
    )
    stage.put(CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")
    asked = wanted.keeping.rank
    result = ExtractedLora(
        stage.out,
        tuple(pairs),
        tuple(_other(change, modules, whole) for change in others),
        nbytes,
        fit.model.checkpoint.nbytes,
        sum(asked > min(p.shape) for p in pairs) if asked is not None else 0,
        (*map(told, fit.notes), *expert_notes(pairs, modules.linear_names)),
    )
    of_hub = fit.base.source.origin().kind == "hub"
    card = write_card(result, wanted.model, wanted.base, architecture(base), of_hub=of_hub)
    stage.put("README.md", card)
    return result


def _taken(found: Iterable[Change], factors: Factors) -> tuple[list[Pair], list[Change], bool]:
    """Put factors on disk; return their pairs, other changes, and whether a weight is turned.

    Raises `UsageError` where there are no factors.
    """
    pairs: list[Pair] = []
    others: list[Change] = []
    turned = False
    for change in found:
        pair = _added(change, factors)
        if pair is not None:
            pairs.append(pair)
            turned |= change.linear is not None and change.linear.turned
        elif change.changed:
            others.append(change)
    _check_found(pairs, others)
    return pairs, others, turned


def _added(change: Change, factors: Factors) -> Pair | None:
    """Put a changed linear weight's factors on disk; None for every other tensor."""
    if change.linear is None or change.down is None or change.up is None:
        return None
    factors.add(change.linear.module, change.down, change.up)
    return Pair(
        change.info.name,
        change.linear.module,
        change.info.shape,
        len(change.down),
        change.squared,
        change.lost,
    )


def _check_found(pairs: Sequence[Pair], others: Sequence[Change]) -> None:
    if pairs:
        return
    why = "the model and the base are the same"
    if others:
        why = f"none of the {len(others):,} tensors that changed is a module's linear weight"
    raise UsageError(f"there is nothing to extract: {why}; name a model that was tuned from BASE")


def _whole(fit: Fit, modules: Modules, pairs: Sequence[Pair], others: Sequence[Change]) -> _Whole:
    """Return every changed module that can be saved whole, in the base's order, and biases."""
    names = {change.info.name for change in others}
    members = {member for name in names for member in modules.whole(name)}
    own = fit.model.checkpoint.tensors
    rows: list[tuple[str, TensorInfo]] = []
    tied = False
    for name in (base.name for _, base in fit.pairs if base.name in members):
        rows.append((modules.called(name), own[name]))
        head = modules.tied_head(name)
        if head is not None:
            rows.append((f"{head}.weight", own[name]))
            tied = True
    biases = modules.biases(pair.tensor for pair in pairs) or {}
    if names.isdisjoint(biases.values()):
        biases = {}
    return _Whole(
        frozenset((*members, *biases.values())),
        tuple(rows),
        tuple(dict.fromkeys(name.rpartition(".")[0] for name, _ in rows)),
        tied,
        biases,
    )


def _other(change: Change, modules: Modules, whole: _Whole) -> Other:
    name = change.info.name
    return Other(
        name, change.info.shape, change.squared, modules.why_not(name), saved=name in whole.tensors
    )
