"""The parts of a recipe as JSON Schema: settings, references, names and small keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mdm_kit.recipe import keys
from mdm_kit.recipe.names import MAX_NAME
from mdm_kit.recipe.options import MAX_LICENSE, MAX_SEED
from mdm_kit.recipe.references import MAX_PATH, MAX_REVISION
from mdm_kit.words import OUT_DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mdm_kit.methods.contract import ParamSpec

Schema = dict[str, Any]

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
        "license": {"type": "string", "minLength": 1, "maxLength": MAX_LICENSE},
        "ledger": mapping(
            keys.LEDGER_KEYS,
            {"keep": {"enum": list(keys.LEDGER_KEEPS), "default": keys.LEDGER_KEEPS[0]}},
        ),
        "coefficients": mapping(
            keys.COEFFICIENTS_KEYS, {"method": {"enum": list(keys.COEFFICIENT_METHODS)}}
        ),
        "tokenizer": mapping(keys.TOKENIZER_KEYS, {"source": {"const": "base"}}),
        "tokenizer_source": {"const": "base"},
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
    return about if spec.default is None else about | {"default": spec.default}


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
    if spec.choices:
        words = ["word", *spec.choices]
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
    if spec.choices:
        return {"enum": list(spec.choices)}
    bounds = {"minimum": spec.minimum, "maximum": spec.maximum}
    return {"type": "number"} | {k: v for k, v in bounds.items() if v is not None}
