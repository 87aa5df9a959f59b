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
    "slices": "Pieces of the result, one behind the other: which layers of which models.",
    "modules": "For a model of several towers: what is merged in each of them.",
    "parameters": "Parameters of the method: for the whole merge, and for every model that does "
    "not say otherwise.",
    "dtype": "The dtype of the result; the arithmetic is float32 or better whatever stands here.",
    "out_dtype": "The dtype of the result, where it is not that of dtype.",
    "name": "What the merge is called; in a document before the last one, what later ones call "
    "its result.",
    "tokenizer": "Where the result's tokenizer comes from.",
    "tokenizer_source": "Where the result's tokenizer comes from, in one word.",
    "chat_template": "The result's chat template: auto, a name, or the template itself.",
}
"""Top-level keys that mergekit 0.1.5 knows and that are honoured here, with what they mean."""

OWN_KEYS = {
    "seed": "Decides what methods that draw by chance draw.",
    "license": "The licence of the result, where the models' licences differ.",
    "ledger": "What is kept beside the result, for taking models out of it again.",
    "coefficients": "How the models' weights are found.",
    "on_mismatch": "What becomes of tensors that not all models have, or have in the same shape: "
    "error refuses the merge; base writes them as the base has them; skip merges them of the "
    "models that have them. Tensors the base does not have are left out.",
    "push": "Where merge --push publishes the result; nothing is published without the flag.",
    "experts": "The models whose feed-forward layers become experts, as mergekit-moe has them.",
    "shared_experts": "The model whose feed-forward layers every token goes through.",
    "gate_mode": "How the routers come of the experts' prompts, or by chance.",
    "experts_per_token": "How many experts a token goes through; 2 if nothing is said.",
    "architecture": "The kind of mixture: mixtral, qwen, qwen3 or deepseek.",
}
"""Top-level keys that mergekit does not know, with what they mean."""

TOP_KEYS = MERGEKIT_KEYS | OWN_KEYS

TOP_REFUSED = {
    "evaluate": Refusal(_LATER, "evaluate the finished folder"),
    "calibration": Refusal(_LATER),
    "input_model_parameters": Refusal(
        "is no longer part of the dialect", "put 'parameters' under each model"
    ),
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
    "base_model": "The base of this slice, one of its sources, where it is not the recipe's.",
    "residual_weight": "Changes nothing.",
}
"""Keys of one item of `slices`."""

MODULE_KEYS = {
    "slices": "The pieces of the module, one behind the other.",
    "models": "The models to merge in the module, whole.",
    "parameters": "Parameters of the module; they come between the slices' and the recipe's.",
}
"""Keys of one of `modules`."""

SOURCE_KEYS = ENTRY_KEYS | {
    "layer_range": "The first layer and the one behind the last.",
}
"""Keys of one item of a slice's `sources`."""

EXPERT_KEYS = {
    "source_model": "The model: a Hub id or a folder.",
    "name": "What the model is called in reports, in the manifest and on the command line.",
    "positive_prompts": "Texts that should be routed to this expert.",
    "negative_prompts": "Texts that should not.",
    "noise_scale": "Standard deviation of noise that is added to the expert's weights.",
    "residual_scale": "Multiplies what the expert adds: its down projection.",
}
"""Keys of one item of `experts`."""

GATE_MODES = ("hidden", "hidden_avg", "hidden_last", "cheap_embed", "random", "uniform_random")

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

TOKENIZER_KEYS = {
    "source": "Whose tokenizer the result has: base, union or a model of the recipe. In a union "
    "the base's tokens keep their ids, and what only other models know comes behind them.",
    "tokens": "Tokens the result has besides, or whose rows come from somewhere else.",
    "pad_to_multiple_of": "The number of embedding rows is rounded up to a multiple of this.",
}
TOKEN_KEYS = {
    "source": "Where the token's row comes from in models that lack it: a model, a model's other "
    "token, or zeros. Left out, from the base, or from the models that have it.",
    "force": "true: every model gets that row, whether it knows the token or not.",
}
ROW_KINDS = {
    "model_token": "The row of another token, of the model that is named.",
    "zero": "A row of zeros.",
}
MODEL_TOKEN_KEYS = {
    "kind": "model_token",
    "model": "A model of the recipe.",
    "token": "The token whose row it is.",
    "token_id": "The id of that token, instead of its text.",
}
LEDGER_KEYS = {
    "keep": "references: names and digests, and what the method measured. deltas: the models "
    "besides, losslessly. deltas+base: the base too. state: the sums that opcm and covmerge go on "
    "from. none: nothing.",
}
PUSH_KEYS = {
    "repo": "The repository on the Hub, as you/name; it is created if there is none.",
    "private": "true or false: who may see it. A new repository is private if nothing is said.",
    "revision": "The branch, main if nothing is said.",
    "message": "The title of the commit.",
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
        "side",
        "t",
        "tail_tol",
        "tol",
        "variant",
        "weight",
    }
)
"""Names of method parameters, to tell a key that stands too far left from a misspelt one."""

LEDGER_KEEPS = ("references", "deltas", "deltas+base", "state", "none")
ON_MISMATCH = ("error", "base", "skip")
COEFFICIENT_METHODS = ("fixed",)
COEFFICIENT_METHODS_LATER = ("quadratic", "gradient", "cma_es")

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
