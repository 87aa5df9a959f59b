"""The parts of a recipe as JSON Schema: settings, references, names and small keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mdm_kit.recipe import keys
from mdm_kit.recipe.chat_template import AUTO, MIN_TEMPLATE, TEMPLATE_NAMES
from mdm_kit.recipe.names import MAX_NAME
from mdm_kit.recipe.options import LICENSE, MAX_SEED
from mdm_kit.recipe.push import MAX_MESSAGE, MAX_REPO
from mdm_kit.recipe.references import MAX_PATH, MAX_REVISION
from mdm_kit.recipe.tokenizer import MAX_MULTIPLE, MAX_TOKEN_ID
from mdm_kit.words import OUT_DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mdm_kit.methods.contract import ParamSpec

Schema = dict[str, Any]

_REFERENCE: Schema = {"$ref": "#/$defs/reference"}
_NAME = r"^[^\s./\\-]([^/\\]*[^\s/\\])?$"


def mapping(
    meanings: Mapping[str, str], forms: Mapping[str, Schema], required: tuple[str, ...] = ()
) -> Schema:
    """Return the schema of a mapping that may hold these keys and no other."""
    properties = {key: {"description": text, **forms[key]} for key, text in meanings.items()}
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | {"required": list(required)} if required else made


def options() -> dict[str, Schema]:
    """Return the schema of each top-level key that is the same for all methods."""
    dtypes = [*OUT_DTYPES, *(f"torch.{name}" for name in OUT_DTYPES)]
    return {
        "dtype": {"enum": dtypes},
        "out_dtype": {"enum": dtypes},
        "name": name(),
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 0},
        "license": {"type": "string", "pattern": f"^{LICENSE.pattern}$"},
        "on_mismatch": {"enum": list(keys.ON_MISMATCH), "default": keys.ON_MISMATCH[0]},
        "ledger": mapping(
            keys.LEDGER_KEYS,
            {"keep": {"enum": list(keys.LEDGER_KEEPS), "default": keys.LEDGER_KEEPS[0]}},
        ),
        "coefficients": mapping(
            keys.COEFFICIENTS_KEYS, {"method": {"enum": list(keys.COEFFICIENT_METHODS)}}
        ),
        "push": mapping(keys.PUSH_KEYS, _push(), required=("repo",)),
        "tokenizer": mapping(keys.TOKENIZER_KEYS, _tokenizer()),
        "tokenizer_source": _REFERENCE,
        "chat_template": _chat_template(),
    }


def _tokenizer() -> dict[str, Schema]:
    text = {"type": "string", "minLength": 1}
    which = {"token": text, "token_id": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}}
    forms = {"kind": {"const": "model_token"}, "model": _REFERENCE, **which}
    model_token = mapping(keys.MODEL_TOKEN_KEYS, forms, required=("kind", "model"))
    model_token["oneOf"] = [{"required": [name]} for name in which]
    zero = mapping({"kind": keys.ROW_KINDS["zero"]}, {"kind": {"const": "zero"}}, ("kind",))
    source = {"anyOf": [_REFERENCE, model_token, zero]}
    token = mapping(keys.TOKEN_KEYS, {"source": source, "force": {"type": "boolean"}})
    token["if"] = {"properties": {"force": {"const": True}}, "required": ["force"]}
    token["then"] = {"required": ["source"]}
    tokens = {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": token}
    multiple = {"type": "integer", "minimum": 1, "maximum": MAX_MULTIPLE}
    return {"source": _REFERENCE, "tokens": tokens, "pad_to_multiple_of": multiple}


def _chat_template() -> Schema:
    written = {"type": "string", "minLength": MIN_TEMPLATE, "pattern": r"\{"}
    return {"anyOf": [{"enum": [AUTO, *TEMPLATE_NAMES]}, written]}


def _push() -> dict[str, Schema]:
    line = {"type": "string", "minLength": 1, "maxLength": MAX_REPO}
    return {
        "repo": line | {"pattern": "^[^/]+/[^/]+$"},
        "private": {"type": "boolean"},
        "revision": line,
        "message": line | {"maxLength": MAX_MESSAGE},
    }


def name() -> Schema:
    """Return the schema of a model's or a merge's name."""
    return {"type": "string", "maxLength": MAX_NAME, "pattern": _NAME}


def reference() -> Schema:
    """Return the schema of a model reference: one text, or a mapping."""
    text = {"type": "string", "minLength": 1}
    path = mapping(
        keys.PATH_KEYS,
        {
            "path": text | {"maxLength": MAX_PATH},
            "revision": text | {"maxLength": MAX_REVISION},
        },
        required=("path",),
    )
    either = {"anyOf": [text, path]}
    whole = mapping(
        keys.REFERENCE_KEYS, dict.fromkeys(keys.REFERENCE_KEYS, either), required=("model",)
    )
    return {"anyOf": [text, whole, path]}


def parameter(spec: ParamSpec) -> Schema:
    """Return the schema of a parameter; what it may hold stands in `settings`."""
    if spec.inert:
        return inert(spec.inert) | {"$ref": f"#/$defs/{_kind(spec)}"}
    meaning = f"{spec.help[0].upper()}{spec.help[1:]}."
    about: Schema = {"description": meaning, "$ref": f"#/$defs/{_kind(spec)}"}
    if spec.default is None or spec.listed:
        return about
    return about | {"default": spec.default}


def inert(why: str) -> Schema:
    """Return what is said of a parameter that changes nothing; editors do not suggest it."""
    return {"description": f"Changes nothing here: {why}.", "doNotSuggest": True}


def settings(specs: Iterable[ParamSpec]) -> dict[str, Schema]:
    """Return what parameters may hold, by the names under which `parameter` refers to it.

    That is a value, a list along the layers, or values by tensor name; for a constant a value.
    """
    return {_kind(spec): _setting(spec) for spec in specs}


def _kind(spec: ParamSpec) -> str:
    """Return a name for what a parameter may hold, of characters a reference may hold."""
    if spec.listed:
        words = ["texts"]
    elif spec.choices:
        words = [*(["number-or"] if spec.type is float else []), "word", *spec.choices]
    elif spec.type is bool:
        words = ["boolean"]
    else:
        low = [] if spec.minimum is None else ["from", f"{spec.minimum:g}"]
        words = ["number", *low, *([] if spec.maximum is None else ["to", f"{spec.maximum:g}"])]
    return "-".join(re.sub(r"[^\w.]", "_", w) for w in (["constant"] * spec.constant + words))


def _setting(spec: ParamSpec) -> Schema:
    value = _value(spec)
    if spec.constant:
        return value
    along = {"type": "array", "items": value, "minItems": 1}
    by_name = mapping(
        keys.FILTER_KEYS,
        {"filter": {"type": "string"}, "value": {"anyOf": [value, along]}},
        required=("value",),
    )
    return {"anyOf": [value, along, {"type": "array", "items": by_name, "minItems": 1}, by_name]}


def _value(spec: ParamSpec) -> Schema:
    if spec.type is bool:
        return {"type": "boolean"}
    if spec.listed:
        text: Schema = {"type": "string", "minLength": 1}
        return {"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]}
    if spec.choices and spec.type is str:
        return {"enum": list(spec.choices)}
    bounds = {"minimum": spec.minimum, "maximum": spec.maximum}
    number = {"type": "number"} | {k: v for k, v in bounds.items() if v is not None}
    return {"anyOf": [number, {"enum": list(spec.choices)}]} if spec.choices else number
