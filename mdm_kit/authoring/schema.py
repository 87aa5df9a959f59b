"""The JSON Schema of a recipe, for editors that complete and check YAML while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.authoring.forms import (
    Schema,
    inert,
    mapping,
    name,
    options,
    parameter,
    reference,
    settings,
)
from mdm_kit.methods.registry import methods
from mdm_kit.planner.mixtures import TARGETS
from mdm_kit.planner.parameters import INERT_EVERYWHERE
from mdm_kit.recipe import keys
from mdm_kit.recipe.mixtures import MAX_PROMPTS
from mdm_kit.recipe.models import MAX_MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mdm_kit.methods.contract import Method, ParamSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a recipe as this version reads it.

    It knows every key, the methods that are installed and each one's parameters. What only models
    can tell, as the names of their tensors, is left to `plan`. It is stricter than the reader where
    the reader is kind: numbers stand without quotes, booleans are `true` and `false`, and a key
    without a value is left out.
    """
    known = methods()
    entry = {"model": {"$ref": "#/$defs/reference"}, "name": name(), "parameters": _any_mapping()}
    forms: dict[str, Schema] = {
        **options(),
        "merge_method": {
            "enum": list(known),
            "enumDescriptions": [m.title for m in known.values()],
        },
        "base_model": {"$ref": "#/$defs/reference"},
        "models": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_MODELS,
            "items": mapping(keys.ENTRY_KEYS, entry, required=("model",)),
        },
        "parameters": _any_mapping(),
        "slices": _slices(entry),
        "modules": _modules(entry),
        **_mixture(),
    }
    return {
        "$schema": DIALECT,
        "title": "mdm_kit recipe",
        "description": "Merges fine-tuned models; mdm-kit plan says what it would do.",
        **mapping(keys.TOP_KEYS, forms),
        "oneOf": [
            *({"required": ["merge_method", key]} for key in ("models", "slices", "modules")),
            {"required": ["experts", "base_model"]},
        ],
        "not": {"required": ["tokenizer", "tokenizer_source"]},
        "allOf": [
            {
                "if": {
                    "properties": {"merge_method": {"const": method.name}},
                    "required": ["merge_method"],
                },
                "then": {"$ref": f"#/$defs/method-{method.name}"},
            }
            for method in known.values()
        ],
        "$defs": {
            "reference": reference(),
            **settings(spec for method in known.values() for spec in method.params.specs()),
            **{f"method-{method.name}": _of_method(method) for method in known.values()},
        },
    }


def _slices(entry: Schema) -> Schema:
    layers = {"type": "integer", "minimum": 0}
    source = entry | {"layer_range": {"type": "array", "items": layers, "minItems": 2}}
    source["layer_range"]["maxItems"] = 2
    sources = {
        "type": "array",
        "minItems": 1,
        "items": mapping(keys.SOURCE_KEYS, source, required=("model", "layer_range")),
    }
    forms: dict[str, Schema] = {
        "sources": sources,
        "parameters": _any_mapping(),
        "base_model": {"$ref": "#/$defs/reference"},
        "residual_weight": {"type": "number"},
    }
    item = mapping(keys.SLICE_KEYS, forms, required=("sources",))
    return {"type": "array", "minItems": 1, "items": item}


def _modules(entry: Schema) -> Schema:
    models = {"type": "array", "minItems": 1}
    models |= {"items": mapping(keys.ENTRY_KEYS, entry, required=("model",))}
    forms = {"slices": _slices(entry), "models": models, "parameters": _any_mapping()}
    module = mapping(keys.MODULE_KEYS, forms)
    module["oneOf"] = [{"required": ["slices"]}, {"required": ["models"]}]
    return {"type": "object", "minProperties": 1, "additionalProperties": module}


def _mixture() -> dict[str, Schema]:
    """Return the keys of a mixture of experts, as mergekit-moe has them."""
    texts = {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MAX_PROMPTS}
    number = {"type": "number"}
    expert = mapping(
        keys.EXPERT_KEYS,
        {
            "source_model": {"$ref": "#/$defs/reference"},
            "name": name(),
            "positive_prompts": texts,
            "negative_prompts": texts,
            "noise_scale": number,
            "residual_scale": number,
        },
        required=("source_model",),
    )
    return {
        "experts": {"type": "array", "minItems": 1, "items": expert},
        "shared_experts": {"type": "array", "items": expert},
        "gate_mode": {"enum": list(keys.GATE_MODES), "default": keys.GATE_MODES[0]},
        "experts_per_token": {"type": "integer", "minimum": 1, "default": 2},
        "architecture": {"enum": [target.name for target in TARGETS]},
    }


def _any_mapping() -> Schema:
    """Return what parameters are before it is known whose: the method's part names them."""
    return {"type": "object"}


def _of_method(method: Method) -> Schema:
    """Return what a recipe with this method must be, beyond what every recipe must be."""
    specs = method.params.specs()
    models = {"items": {"properties": {"parameters": _parameters(s for s in specs if s.per_model)}}}
    shared = [s.name for s in specs if s.required and not s.per_model]
    whole = _parameters(specs)
    within = {"sources": models | _numbers(method), "parameters": whole}
    slices = {"items": {"properties": within}}
    module = {"slices": slices, "models": models | _numbers(method), "parameters": whole}
    made: Schema = {
        "properties": {
            "merge_method": {"description": method.doc.strip()},
            "models": models | _numbers(method),
            "slices": slices,
            "modules": {"additionalProperties": {"properties": module}},
            "parameters": whole,
        }
    }
    if shared:  # a slice may have them instead
        at_top = {"required": ["parameters"], "properties": {"parameters": {"required": shared}}}
        made["anyOf"] = [at_top, {"required": ["slices"]}, {"required": ["modules"]}]
    required = ["base_model"] if method.needs_base else []
    if not method.takes_deltas(with_base=True):
        without = [k for k in keys.LEDGER_KEEPS if not k.startswith("deltas")]
        made["properties"]["ledger"] = {"properties": {"keep": {"enum": without}}}
    return made | ({"required": required} if required else {})


def _numbers(method: Method) -> Schema:
    """Return how many models the list may hold; the base may stand among them."""
    bounds: Schema = {"minItems": method.min_models}
    if method.max_models is not None:
        listed = method.base in ("first", "origin", "optional")
        bounds["maxItems"] = method.max_models + listed
    return bounds


def _parameters(specs: Iterable[ParamSpec]) -> Schema:
    known = {spec.name: parameter(spec) for spec in specs}
    carried = {name: inert(why) for name, why in INERT_EVERYWHERE.items() if name not in known}
    return {"type": "object", "properties": known | carried, "additionalProperties": False}
