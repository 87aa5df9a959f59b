"""Every key a recipe may hold, and every key it may not hold yet, with the reason."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """Why a key that means something elsewhere is refused, and what to do instead."""

    reason: str
    hint: str = ""


_LATER = "is not available in this version"

MERGEKIT_KEYS = frozenset(
    {
        "merge_method",
        "base_model",
        "models",
        "parameters",
        "dtype",
        "out_dtype",
        "name",
        "tokenizer",
        "tokenizer_source",
    }
)
"""Top-level keys that mergekit 0.1.5 knows and that are honoured here."""

OWN_KEYS = frozenset({"seed", "license", "ledger", "coefficients"})
"""Top-level keys that mergekit does not know."""

TOP_KEYS = MERGEKIT_KEYS | OWN_KEYS

TOP_REFUSED = {
    "slices": Refusal(_LATER, "list whole models under 'models'"),
    "modules": Refusal(_LATER, "list whole models under 'models'"),
    "chat_template": Refusal(_LATER, "the base's template is kept as it is"),
    "push": Refusal(_LATER, "upload the finished folder"),
    "evaluate": Refusal(_LATER, "evaluate the finished folder"),
    "calibration": Refusal(_LATER),
    "on_mismatch": Refusal(_LATER, "models must agree in names and shapes"),
    "input_model_parameters": Refusal(
        "is no longer part of the dialect", "put 'parameters' under each model"
    ),
    "experts": Refusal("belongs to mergekit-moe, which is another format"),
    "gate_mode": Refusal("belongs to mergekit-moe, which is another format"),
    "genome": Refusal("belongs to mergekit-evolve, which is another format"),
    "random_seed": Refusal("is not a key", "write seed: 0"),
}

ENTRY_KEYS = ("model", "name", "parameters")
"""Keys of one item of `models`."""

ENTRY_REFUSED = {
    "layer_range": Refusal(_LATER, "it belongs to 'slices'; whole models are merged here"),
    "lora": Refusal("is not a key of a model", "write model: owner/name+owner/adapter"),
    "path": Refusal("is not a key of a model", "write model: owner/name"),
    "revision": Refusal("is not a key of a model", "write model: owner/name@revision"),
    "override_architecture": Refusal("is not available", "nothing here depends on it"),
}

PARAMETER_NAMES = frozenset(
    {
        "alpha",
        "density",
        "eps",
        "epsilon",
        "filter_wise",
        "gamma",
        "int8_mask",
        "lambda",
        "max_iter",
        "normalize",
        "normalize_weights",
        "nuslerp_flatten",
        "nuslerp_row_wise",
        "orthogonalize",
        "other",
        "project",
        "r",
        "rescale",
        "ridge",
        "scale",
        "scale_scope",
        "scope",
        "select_topk",
        "t",
        "tail_tol",
        "tol",
        "variant",
        "weight",
    }
)
"""Names of method parameters, to tell a key that stands too far left from a misspelt one."""

LEDGER_KEEPS = ("references", "deltas", "deltas+base", "none")
LEDGER_KEEPS_LATER = ("state",)
COEFFICIENT_METHODS = ("fixed",)
COEFFICIENT_METHODS_LATER = ("quadratic", "gradient", "cma_es")

TOKENIZER_REFUSED = {
    "tokens": Refusal(_LATER, "it needs embedding rows moved; use {source: base}"),
    "pad_to_multiple_of": Refusal(_LATER, "embeddings keep the base's rows"),
}

DTYPE_NICKNAMES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "fp64": "float64",
    "f64": "float64",
    "double": "float64",
}
