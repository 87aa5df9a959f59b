"""Every key a recipe may hold, and every key it may not hold yet, with the reason."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """Why a key that means something elsewhere is refused, and what to do instead."""

    reason: str
    hint: str = ""


_LATER = "is not available in this version"

MERGEKIT_KEYS = {
    "merge_method": "How the models are merged; mdm-kit methods NAME explains each method.",
    "base_model": "The model the others were made from. It gives names, config and tokenizer.",
    "models": "The models to merge, in order.",
    "slices": "The models to merge, written as one slice over all their layers.",
    "parameters": "Parameters of the method: for the whole merge, and for every model that does "
    "not say otherwise.",
    "dtype": "The dtype of the result; the arithmetic is float32 or better whatever stands here.",
    "out_dtype": "The dtype of the result, where it is not that of dtype.",
    "name": "What the merge is called.",
    "tokenizer": "Where the result's tokenizer comes from.",
    "tokenizer_source": "Where the result's tokenizer comes from, in one word.",
}
"""Top-level keys that mergekit 0.1.5 knows and that are honoured here, with what they mean."""

OWN_KEYS = {
    "seed": "Decides what methods that draw by chance draw.",
    "license": "The licence of the result, where the models' licences differ.",
    "ledger": "What is kept beside the result, for taking models out of it again.",
    "coefficients": "How the models' weights are found.",
}
"""Top-level keys that mergekit does not know, with what they mean."""

TOP_KEYS = MERGEKIT_KEYS | OWN_KEYS

TOP_REFUSED = {
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

ENTRY_KEYS = {
    "model": "The model: a Hub id or a folder, with @revision where a branch, tag or commit is "
    "meant.",
    "name": "What the model is called in reports, in the manifest and on the command line.",
    "parameters": "This model's own parameters; they come before the recipe's.",
}
"""Keys of one item of `models`."""

SLICE_KEYS = {
    "sources": "The models of the slice, each with its range of layers.",
    "parameters": "Parameters of the slice; they come between the models' and the recipe's.",
    "residual_weight": "Changes nothing.",
}
"""Keys of one item of `slices`."""

SLICE_REFUSED = {
    "base_model": Refusal(_LATER, "write base_model at the top of the recipe"),
}

SOURCE_KEYS = ENTRY_KEYS | {
    "layer_range": "The first layer and the one behind the last; all layers of the model.",
}
"""Keys of one item of a slice's `sources`."""

REFERENCE_KEYS = {"model": "The model, a text or path and revision.", "lora": "A LoRA adapter."}
"""Keys of a model reference that is written as a mapping."""

PATH_KEYS = {
    "path": "A Hub id or a folder, whatever signs its name holds.",
    "revision": "A branch, tag or commit on the Hub.",
}
"""Keys of a path that is written as a mapping."""

FILTER_KEYS = {
    "filter": "A part of a tensor's name; the first filter that fits wins. Left out, or *, it fits "
    "every tensor.",
    "value": "The value for these tensors, or a list of values from the first layer to the last.",
}
"""Keys of a value for the tensors of some names."""

TOKENIZER_KEYS = {"source": "Whose tokenizer the result has."}
LEDGER_KEYS = {
    "keep": "references: names and digests, and what the method measured. deltas: the models "
    "besides, losslessly. deltas+base: the base too. none: nothing.",
}
COEFFICIENTS_KEYS = {"method": "fixed: the weights are those of the recipe."}

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
