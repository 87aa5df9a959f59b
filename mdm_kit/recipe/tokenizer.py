"""The vocabulary a recipe asks for: whose tokenizer, which tokens besides, how many rows.

Which tokens a model knows is not looked at here; only the writing is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from mdm_kit.recipe import keys
from mdm_kit.recipe.models import known_entries
from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.references import LocatedRef, read_reference
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, kind_of

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector
    from mdm_kit.words import Place

BASE: Final = "base"
UNION: Final = "union"
MAX_MULTIPLE: Final = 1 << 20
"""Rows are padded to multiples of 8 to 256; a million is no longer padding."""
MAX_TOKEN_ID: Final = (1 << 31) - 1

_FORM = "write tokenizer: {source: base}, {source: union} or {source: owner/name}"
_TOKENS_FORM = 'write tokens: {"<|im_start|>": {source: owner/name}}'
_SOURCE_FORM = "write a model, {kind: model_token, model: ..., token: ...} or {kind: zero}"


@dataclass(frozen=True, slots=True)
class Zero:
    """A row of zeros."""


@dataclass(frozen=True, slots=True)
class ModelToken:
    """The row of a token of a model: of its `token`, or of the id `token_id` where that is None."""

    model: LocatedRef
    token: str | None = None
    token_id: int | None = None


RowSource: TypeAlias = LocatedRef | ModelToken | Zero


@dataclass(frozen=True, slots=True)
class TokenRule:
    """Where the row of `token` comes from, in models without it; with `force` in every model.

    A `source` None is what every token has: see `mdm_kit.vocabulary.filling`.
    """

    token: str
    source: RowSource | None
    force: bool
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What the recipe says of the vocabulary; a `source` that is no word is a model's."""

    source: Literal["base", "union"] | LocatedRef
    place: Place = field(compare=False)
    tokens: tuple[TokenRule, ...] = ()
    pad_to_multiple_of: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is the base's vocabulary, with nothing to it."""
        return self.source == BASE and not self.tokens and self.pad_to_multiple_of is None

    @property
    def references(self) -> tuple[LocatedRef, ...]:
        """The models it names, in the order of the text where it is written as usual."""
        found = [self.source] if isinstance(self.source, LocatedRef) else []
        for rule in self.tokens:
            if isinstance(rule.source, LocatedRef):
                found.append(rule.source)
            elif isinstance(rule.source, ModelToken):
                found.append(rule.source.model)
        return tuple(found)


def read_tokenizer(node: Node, found: Collector) -> Tokenizer | None:
    """Return what stands under `tokenizer`; None with a finding where nothing usable does."""
    if not isinstance(node, MappingNode):
        found.error(f"tokenizer: expected a mapping, found {kind_of(node)}", node.place, _FORM)
        return None
    values = known_entries(node, keys.TOKENIZER_KEYS, {}, "of tokenizer", found)
    source: Literal["base", "union"] | LocatedRef | None = UNION  # as in mergekit
    if (written := values.get("source")) is not None and not _null(written):
        source = _whose(written, "tokenizer.source", found)
    tokens = values.get("tokens")
    rules = () if tokens is None or _null(tokens) else _rules(tokens, found)
    multiple = _multiple(values.get("pad_to_multiple_of"), found)
    return None if source is None else Tokenizer(source, node.place, rules, multiple)


def read_tokenizer_source(node: Node, found: Collector) -> Tokenizer | None:
    """Return what `tokenizer_source` says in one word or reference."""
    source = _whose(node, "tokenizer_source", found)
    return None if source is None else Tokenizer(source, node.place)


def _whose(node: Node, key: str, found: Collector) -> Literal["base", "union"] | LocatedRef | None:
    if isinstance(node, Scalar) and node.text == BASE:
        return BASE
    if isinstance(node, Scalar) and node.text == UNION:
        return UNION
    return read_reference(node, key, found)


def _rules(node: Node, found: Collector) -> tuple[TokenRule, ...]:
    if not isinstance(node, MappingNode):
        message = f"tokenizer.tokens: expected a mapping, found {kind_of(node)}"
        found.error(message, node.place, _TOKENS_FORM)
        return ()
    rules = [_rule(key, value, found) for key, value in node.entries]
    return tuple(rule for rule in rules if rule is not None)


def _rule(key: Scalar, node: Node, found: Collector) -> TokenRule | None:
    where = f"tokenizer.tokens, '{seen(key.text)}'"
    if not key.text:
        found.error("tokenizer.tokens: expected a token, found an empty text", key.place)
        return None
    if not isinstance(node, MappingNode):
        found.error(f"{where}: expected a mapping, found {kind_of(node)}", node.place, _TOKENS_FORM)
        return None
    values = known_entries(node, keys.TOKEN_KEYS, {}, f"of the token '{seen(key.text)}'", found)
    written = values.get("source")
    source = None if written is None or _null(written) else _row_source(written, where, found)
    if source is None and written is not None and not _null(written):
        return None
    force = _flag(values.get("force"), f"{where}, force", found)
    if force and source is None:
        message = f"{where}: expected a 'source' beside 'force', found none"
        found.error(message, node.place, _SOURCE_FORM)
    return TokenRule(key.text, source, force, key.place)


def _row_source(node: Node, where: str, found: Collector) -> RowSource | None:
    kind = _kind(node)
    if kind is None:
        return read_reference(node, f"{where}, source", found)
    assert isinstance(node, MappingNode)  # noqa: S101 -- only mappings have a kind
    if not isinstance(kind, Scalar) or kind.text not in keys.ROW_KINDS:
        text = kind.text if isinstance(kind, Scalar) else ""
        options = ", ".join(keys.ROW_KINDS)
        what = f"found '{seen(text)}'{did_you_mean(text, keys.ROW_KINDS)}"
        found.error(f"{where}: expected a kind, one of {options}, {what}", kind.place, _SOURCE_FORM)
        return None
    if kind.text == "zero":
        known_entries(node, ("kind",), {}, f"of {where}", found)
        return Zero()
    return _model_token(node, where, found)


def _model_token(node: MappingNode, where: str, found: Collector) -> ModelToken | None:
    values = known_entries(node, keys.MODEL_TOKEN_KEYS, {}, f"of {where}", found)
    token, token_id = (_given(values, name) for name in ("token", "token_id"))
    if "model" not in values or (token is None) == (token_id is None):
        message = f"{where}: expected a model, and either its token or its token_id"
        found.error(message, node.place, _SOURCE_FORM)
        return None
    model = read_reference(values["model"], f"{where}, model", found)
    if model is None:
        return None
    if token_id is not None:
        number = _whole(token_id, f"{where}, token_id", 0, MAX_TOKEN_ID, found)
        return None if number is None else ModelToken(model, token_id=number)
    if not isinstance(token, Scalar) or not token.text:
        at = node.place if token is None else token.place
        found.error(f"{where}, token: expected a token, found no text", at)
        return None
    return ModelToken(model, token=token.text)


def _kind(node: Node) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, value in node.entries if key.text == "kind"), None)


def _given(values: dict[str, Node], key: str) -> Node | None:
    node = values.get(key)
    return None if node is None or _null(node) else node


def _multiple(node: Node | None, found: Collector) -> int | None:
    if node is None or _null(node):
        return None
    return _whole(node, "tokenizer.pad_to_multiple_of", 1, MAX_MULTIPLE, found)


def _whole(node: Node, key: str, low: int, high: int, found: Collector) -> int | None:
    if not isinstance(node, Scalar):
        found.error(f"{key}: expected a whole number, found {kind_of(node)}", node.place)
        return None
    try:
        number = node.as_integer()
    except WrongValue as problem:
        found.wrong(key, problem, node.place)
        return None
    if not low <= number <= high:
        message = f"{key}: expected a number from {low} to {high:,}, found {number}"
        found.error(message, node.place)
        return None
    return number


def _flag(node: Node | None, key: str, found: Collector) -> bool:
    if node is None or _null(node):
        return False
    if not isinstance(node, Scalar):
        found.error(f"{key}: expected true or false, found {kind_of(node)}", node.place)
        return False
    try:
        return node.as_boolean()
    except WrongValue as problem:
        found.wrong(key, problem, node.place)
        return False


def _null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null
