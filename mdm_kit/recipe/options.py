"""The small keys: dtypes, seed, licence, tokenizer, ledger and coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.recipe import keys
from mdm_kit.recipe.models import known_entries
from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, kind_of
from mdm_kit.words import DTYPES, OUT_DTYPES, DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdm_kit.recipe.collector import Collector

MAX_SEED = 2**64 - 1
MAX_LICENSE = 100
_TORCH_NAMES = frozenset(d.torch_name for d in DTYPES.values())
_ALIGNMENT = "it needs embedding rows aligned, which this version cannot do; use base"


def read_dtype(key: str, node: Node, found: Collector) -> DType | None:
    """Return the dtype `node` names, with or without `torch.`, or None with a finding."""
    scalar = _scalar(key, node, found)
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
    scalar = _scalar("seed", node, found)
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
    """Return the licence's identifier as written, or None with a finding if it is no text."""
    scalar = _scalar("license", node, found)
    if scalar is None:
        return None
    if not scalar.text.strip() or not scalar.text.isprintable() or len(scalar.text) > MAX_LICENSE:
        message = f"expected an identifier of at most {MAX_LICENSE} printable characters"
        found.error(f"license: {message}", scalar.place, "for example apache-2.0")
        return None
    return scalar.text


def read_ledger(node: Node, found: Collector) -> str:
    """Return what the ledger keeps: `references`, `deltas`, `deltas+base` or `none`."""
    mapping = _mapping("ledger", node, "ledger: {keep: references}", found)
    keep = mapping and known_entries(mapping, keys.LEDGER_KEYS, {}, "of ledger", found).get("keep")
    default = keys.LEDGER_KEEPS[0]
    if not keep:
        return default
    later = keys.LEDGER_KEEPS_LATER
    return _choice("ledger.keep", keep, keys.LEDGER_KEEPS, later, found) or default


def check_coefficients(node: Node, found: Collector) -> None:
    """Check that coefficients are `{method: fixed}`, the only way to have them so far."""
    mapping = _mapping("coefficients", node, "coefficients: {method: fixed}", found)
    if mapping is None:
        return
    known = keys.COEFFICIENTS_KEYS
    method = known_entries(mapping, known, {}, "of coefficients", found).get("method")
    if method is not None:
        options, later = keys.COEFFICIENT_METHODS, keys.COEFFICIENT_METHODS_LATER
        _choice("coefficients.method", method, options, later, found)


def check_tokenizer(node: Node, found: Collector) -> None:
    """Check that the tokenizer is `{source: base}`."""
    mapping = _mapping("tokenizer", node, "tokenizer: {source: base}", found)
    if mapping is None:
        return
    known, refused = keys.TOKENIZER_KEYS, keys.TOKENIZER_REFUSED
    values = known_entries(mapping, known, refused, "of tokenizer", found)
    if source := values.get("source"):
        check_tokenizer_source(source, found, "tokenizer.source")


def check_tokenizer_source(node: Node, found: Collector, key: str = "tokenizer_source") -> None:
    """Check that the tokenizer comes from the base."""
    if isinstance(node, Scalar) and node.text == "base":
        return
    if isinstance(node, Scalar) and (node.is_null or node.text == "union"):
        what = "nothing" if node.is_null else "'union'"
    else:
        what = "another model's tokenizer"
    found.error(f"{key}: {what} is not available in this version", node.place, _ALIGNMENT)


def _scalar(key: str, node: Node, found: Collector) -> Scalar | None:
    if isinstance(node, Scalar):
        return node
    found.error(f"{key}: expected a single value, found {kind_of(node)}", node.place)
    return None


def _mapping(key: str, node: Node, form: str, found: Collector) -> MappingNode | None:
    if isinstance(node, MappingNode):
        return node
    found.error(f"{key}: expected a mapping, found {kind_of(node)}", node.place, f"write {form}")
    return None


def _choice(
    key: str, node: Node, options: Sequence[str], later: Sequence[str], found: Collector
) -> str | None:
    """Return the option `node` names; what is documented for later is refused by name."""
    scalar = _scalar(key, node, found)
    if scalar is None:
        return None
    if scalar.text in later:
        message = f"{key}: '{scalar.text}' is not available in this version"
        found.error(message, scalar.place, f"one of {', '.join(options)}")
        return None
    try:
        return scalar.as_choice(options)
    except WrongValue as problem:
        found.wrong(key, problem, scalar.place)
        return None
