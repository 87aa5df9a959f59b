"""The small keys: dtypes, seed, licence, ledger and coefficients."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mdm_kit.recipe import keys
from mdm_kit.recipe.models import known_entries
from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import WrongValue
from mdm_kit.recipe.values import choice_of, mapping_of, scalar_of
from mdm_kit.words import DTYPES, OUT_DTYPES, DType

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector
    from mdm_kit.recipe.yaml_nodes import Node

MAX_SEED = 2**64 - 1
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")
"""The form of the Hub's licence identifiers: apache-2.0, llama3.1, other."""
_TORCH_NAMES = frozenset(d.torch_name for d in DTYPES.values())


def read_dtype(key: str, node: Node, found: Collector) -> DType | None:
    """Return the dtype `node` names, with or without `torch.`, or None with a finding."""
    scalar = scalar_of(key, node, found)
    if scalar is None:
        return None
    name = scalar.text.removeprefix("torch.")
    if name in OUT_DTYPES:
        return OUT_DTYPES[name]
    brief = seen(name)
    options = ", ".join(OUT_DTYPES)
    if name in _TORCH_NAMES:
        message = f"{key}: results cannot be stored as '{brief}'"
        found.error(message, scalar.place, f"one of {options}")
        return None
    meant = keys.DTYPE_NICKNAMES.get(name.lower())
    guess = f"; did you mean '{meant}'?" if meant else did_you_mean(name, OUT_DTYPES)
    found.error(f"{key}: unknown dtype '{brief}'{guess}", scalar.place, f"one of {options}")
    return None


def read_seed(node: Node, found: Collector) -> int:
    """Return the seed, a whole number from 0 to 2**64 - 1; 0 with a finding if it is none."""
    scalar = scalar_of("seed", node, found)
    if scalar is None:
        return 0
    try:
        seed = scalar.as_integer()
    except WrongValue as problem:
        found.wrong("seed", problem, scalar.place)
        return 0
    if not 0 <= seed <= MAX_SEED:
        message = f"seed: expected a number from 0 to 2**64 - 1, found {seen(scalar.text)}"
        found.error(message, scalar.place)
        return 0
    return seed


def read_license(node: Node, found: Collector) -> str | None:
    """Return the licence's identifier as written, or None with a finding if it cannot be one."""
    scalar = scalar_of("license", node, found)
    if scalar is None:
        return None
    if LICENSE.fullmatch(scalar.text):
        return scalar.text
    meant = re.sub(r"[\s_]+", "-", scalar.text.strip().lower())
    guess = f"; did you mean '{meant}'?" if LICENSE.fullmatch(meant) else ""
    found.error(
        f"license: expected an identifier of the Hub, found '{seen(scalar.text)}'{guess}",
        scalar.place,
        "one word in lower case, for example apache-2.0, or other",
    )
    return None


def read_ledger(node: Node, found: Collector) -> str:
    """Return what the ledger keeps: one of `keys.LEDGER_KEEPS`."""
    mapping = mapping_of("ledger", node, "ledger: {keep: references}", found)
    keep = mapping and known_entries(mapping, keys.LEDGER_KEYS, {}, "of ledger", found).get("keep")
    default = keys.LEDGER_KEEPS[0]
    if not keep:
        return default
    return choice_of("ledger.keep", keep, keys.LEDGER_KEEPS, (), found) or default


def read_on_mismatch(node: Node, found: Collector) -> str:
    """Return what becomes of tensors that models do not share: one of `keys.ON_MISMATCH`."""
    return choice_of("on_mismatch", node, keys.ON_MISMATCH, (), found) or keys.ON_MISMATCH[0]


def check_coefficients(node: Node, found: Collector) -> None:
    """Check that coefficients are `{method: fixed}`, the only way to have them so far."""
    mapping = mapping_of("coefficients", node, "coefficients: {method: fixed}", found)
    if mapping is None:
        return
    known = keys.COEFFICIENTS_KEYS
    method = known_entries(mapping, known, {}, "of coefficients", found).get("method")
    if method is not None:
        options, later = keys.COEFFICIENT_METHODS, keys.COEFFICIENT_METHODS_LATER
        choice_of("coefficients.method", method, options, later, found)
