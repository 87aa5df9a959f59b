"""Which tensors of a model an adapter changes, and by what: its keys, checked against the model's.

PEFT writes `base_model.model.<module>.lora_A.weight` (r, in) and `.lora_B.weight` (out, r), for
embeddings `.lora_embedding_A` (r, rows) and `.lora_embedding_B` (width, r), and whole tensors of
modules that were trained with it under their own names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, MisfitError, SourceError
from mdm_kit.sources.adapter_files import ADAPTER_WEIGHTS
from mdm_kit.sources.whereabouts import at, named
from mdm_kit.words import DTYPES, TensorInfo, shown

if TYPE_CHECKING:
    from mdm_kit.sources.adapter_config import AdapterConfig

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?(2)|\.weight)")
_BIAS = re.compile(r"(.+)\.lora_B(?:\.default)?\.bias")
_OWN_NAME = re.compile(r"\.(?:base_layer|modules_to_save(?:\.default)?|original_module)(?=\.)")
"""What PEFT puts between a module and its tensor where it has wrapped the module."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change scale · left · right of a stored tensor (rows, columns), as it lies in its file.

    B is `left` (rows, rank) and A is `right` (rank, columns). Where the tensor is `turned`, stored
    as (in, out), `left` is A, `right` is B, and both are read transposed.
    """

    left: TensorInfo
    right: TensorInfo
    turned: bool
    scale: float

    @property
    def rank(self) -> int:
        """How many directions the factors have."""
        return self.right.shape[1] if self.turned else self.left.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes both factors have in their file."""
        return self.left.nbytes + self.right.nbytes


@dataclass(frozen=True, slots=True)
class Shift:
    """The change scale · vector of a stored bias, which LoRA has where B has a bias."""

    vector: TensorInfo
    scale: float

    @property
    def nbytes(self) -> int:
        """The bytes the vector has in its file."""
        return self.vector.nbytes


@dataclass(frozen=True, slots=True)
class Targets:
    """What an adapter does to a model's tensors, by name: take the place of them, add something.

    To a tensor that is `replaced` and `changed` the product is added behind: an embedding is saved
    with its adapter where it was made larger.
    """

    changed: Mapping[str, LowRank | Shift]
    replaced: Mapping[str, TensorInfo]


def targets_of(
    name: str,
    config: AdapterConfig,
    adapter: Mapping[str, TensorInfo],
    model: Mapping[str, TensorInfo],
) -> Targets:
    """Return what the tensors of an `adapter` do to those of a `model`, called `name` in errors.

    Raises `SourceError` for tensors of other kinds of adapters, `IntegrityError` for an adapter
    that contradicts itself, `MisfitError` for one that does not fit the model.
    """
    pairs, biases, whole = _sorted(name, adapter)
    wanted = [f"{module}.weight" for module in pairs] + list(whole)
    wanted += [f"{module}.bias" for module in biases]
    called = _called(name, wanted, model)
    replaced = {called[key]: info for key, info in whole.items()}
    stored = {}
    for module in pairs:
        target = called[f"{module}.weight"]
        stored[module] = replace(replaced.get(target, model[target]), name=target)
    turned = config.turned or any(
        _lies(pair, stored[module].shape) == (False, True)
        for module, pair in pairs.items()
        if not pair.embedding
    )
    changed: dict[str, LowRank | Shift] = {
        stored[module].name: _low_rank(name, config, module, pair, stored[module], turned)
        for module, pair in pairs.items()
    }
    for module, info in biases.items():
        bias = model[called[f"{module}.bias"]]
        changed[bias.name] = _shift(name, config, module, info, bias)
    return Targets(changed, replaced)


@dataclass(frozen=True, slots=True)
class _Pair:
    a: TensorInfo
    b: TensorInfo
    embedding: bool


def _sorted(
    name: str, adapter: Mapping[str, TensorInfo]
) -> tuple[dict[str, _Pair], dict[str, TensorInfo], dict[str, TensorInfo]]:
    """Return pairs of factors and biases of B by module, and whole tensors by name."""
    factors: dict[str, dict[str, TensorInfo]] = {}
    embeddings = set()
    biases = {}
    whole: dict[str, TensorInfo] = {}
    odd = []
    for key, info in adapter.items():
        own = key.removeprefix(_PREFIX)
        factor, bias = _FACTOR.fullmatch(own), _BIAS.fullmatch(own)
        if bias is not None and own != key:
            biases[bias[1]] = info
        elif own == key or (factor is None and "lora_" in own):
            odd.append(key)
        elif factor is None:
            whole[_OWN_NAME.sub("", own)] = info
        else:
            factors.setdefault(factor[1], {})[factor[3]] = info
            if factor[2]:
                embeddings.add(factor[1])
    if odd:
        dora = any("magnitude" in key for key in odd)
        raise SourceError(
            f"{at(name, ADAPTER_WEIGHTS)}: expected tensors of a plain LoRA "
            f"({_PREFIX}MODULE.lora_A.weight and lora_B), found {named(odd, 3)}"
            + (", the magnitudes of DoRA" if dora else "")
            + "; merge the adapter into its base with PEFT first"
        )
    alone = [module for module, found in factors.items() if len(found) < 2]
    if alone:
        raise IntegrityError(
            f"{at(name, ADAPTER_WEIGHTS)}: expected lora_A and lora_B of every module, found only "
            f"one of them for {named(alone, 3)}; get the adapter again"
        )
    if not adapter:
        raise IntegrityError(f"{at(name, ADAPTER_WEIGHTS)}: holds no tensor; get it again")
    pairs = {m: _Pair(f["A"], f["B"], m in embeddings) for m, f in factors.items()}
    return pairs, biases, whole


def _called(name: str, wanted: Collection[str], model: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Return what the model calls the tensors an adapter names.

    A checkpoint may have its tensors under another prefix than the class the adapter was trained
    in; it is the same for all of them then.
    """
    missing = [w for w in wanted if w not in model]
    if not missing:
        return {w: w for w in wanted}
    for cut, put in _prefixes(missing[0], model):
        if all(w.startswith(cut) and put + w[len(cut) :] in model for w in wanted):
            return {w: put + w[len(cut) :] for w in wanted}
    tied = [w for w in missing if w.split(".")[-2:] == ["lm_head", "weight"]]
    raise MisfitError(
        f"{at(name)}: the adapter changes {named(missing, 3)}, which the model does not have"
        + (
            "; its head is tied to the embedding, and a change to one would change both: merge "
            "the adapter with PEFT first"
            if tied and len(tied) == len(missing)
            else "; was it trained on another model?"
        )
    )


def _prefixes(wanted: str, model: Mapping[str, TensorInfo]) -> list[tuple[str, str]]:
    """Return pairs of prefixes whose exchange makes `wanted` a tensor of the model.

    The longest common endings first, of at least two parts of a name before the last.
    """
    parts = wanted.split(".")
    found: dict[tuple[str, str], int] = {}
    for name in model:
        other = name.split(".")
        same = 0
        while same < min(len(parts), len(other)) and parts[-1 - same] == other[-1 - same]:
            same += 1
        if same >= 3:
            cut, put = parts[: len(parts) - same], other[: len(other) - same]
            found[".".join([*cut, ""]) if cut else "", ".".join([*put, ""]) if put else ""] = same
    return sorted(found, key=lambda pair: -found[pair])


def _lies(pair: _Pair, shape: tuple[int, ...]) -> tuple[bool, bool]:
    """Return whether B·A fits a stored tensor as it is, and whether it does transposed."""
    product = (*pair.b.shape[:1], *pair.a.shape[1:2])
    return product == shape, product[::-1] == shape


def _shift(
    name: str, config: AdapterConfig, module: str, info: TensorInfo, bias: TensorInfo
) -> Shift:
    """Return a bias's change, checked against the bias."""
    if info.shape != bias.shape or not (DTYPES[info.dtype].merges and DTYPES[bias.dtype].merges):
        raise MisfitError(
            f"{at(name, ADAPTER_WEIGHTS, info.name)}: expected a change of {shown(module)}'s bias "
            f"{list(bias.shape)} {bias.dtype}, found {list(info.shape)} {info.dtype}; was the "
            "adapter trained on another model?"
        )
    return Shift(info, config.scale_of(module))


def _low_rank(
    name: str, config: AdapterConfig, module: str, pair: _Pair, info: TensorInfo, turned: bool
) -> LowRank:
    """Return a module's change, checked against the tensor it is made to.

    PEFT finds for each module whether it is stored as (in, out) and notes it for the last one, so
    `turned`, which is the adapter's, decides for square ones alone.
    """
    a, b = pair.a, pair.b
    where = at(name, ADAPTER_WEIGHTS)
    for factor in (a, b):
        if not DTYPES[factor.dtype].merges:
            raise SourceError(
                f"{at(name, ADAPTER_WEIGHTS, factor.name)}: expected floating numbers, found "
                f"{factor.dtype}; an adapter is read as it was trained"
            )
    if not DTYPES[info.dtype].merges:
        raise MisfitError(
            f"{at(name, info.file, info.name)}: the adapter changes it, and it is stored as "
            f"{info.dtype}; name the unquantised model the adapter was trained on"
        )
    if len(a.shape) != 2 or len(b.shape) != 2 or len(info.shape) != 2:
        raise SourceError(
            f"{where}: expected matrices for {shown(module)}, found {list(a.shape)} and "
            f"{list(b.shape)} for a weight {list(info.shape)}; adapters of convolutions are not "
            "read: merge the adapter into its base with PEFT first"
        )
    rank = config.rank_of(module)
    if (a.shape[0], b.shape[1]) != (rank, rank):
        raise IntegrityError(
            f"{where}: {shown(module)}: expected factors of rank {rank}, as adapter_config.json "
            f"says, found {a.shape[0]} in A and {b.shape[1]} in B; get the adapter again"
        )
    plain, fits_turned = _lies(pair, info.shape)
    plain = plain and not pair.embedding
    if not (plain or fits_turned):
        raise MisfitError(
            f"{where}: {shown(module)}: B·A is {[b.shape[0], a.shape[1]]}, and the model's weight "
            f"{list(info.shape)}; was the adapter trained on another model?"
        )
    if fits_turned and (turned or not plain):
        return LowRank(a, b, True, config.scale_of(module))
    return LowRank(b, a, False, config.scale_of(module))
