"""What transformers calls the modules of a checkpoint, told from its config and its names.

A checkpoint without a head, and models of several towers, are stored under other names than those
of the model that transformers makes of them, which are the names peft looks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

_HEADED = re.compile(r"(?:LMHeadModel|DoubleHeadsModel|For[A-Z]\w+)$")
"""Classes of transformers that put a head on a model, which then has a name before its own."""
_BARE_STACK = re.compile(r"^(?:h|layers|decoder\.layers|encoder\.layer|transformer\.layer)\.\d+\.")
"""The layers of a checkpoint that was saved without a head, as the Hub's gpt2 was."""
_PREFIXES = {
    **dict.fromkeys(("gpt2", "gptj", "gpt_neo", "gpt_bigcode", "bloom", "falcon"), "transformer"),
    **dict.fromkeys(("bert", "roberta", "electra", "distilbert", "camembert"), None),
    "xlm-roberta": "roberta",
    "gpt_neox": "gpt_neox",
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi"), "model"),
    **dict.fromkeys(("phi3", "olmo2", "starcoder2", "opt", "granite", "stablelm"), "model"),
}
"""What that name is, by the config's model_type; None where it is the type itself."""


_TOWERS = (
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.model\."), "model.language_model."),
    (re.compile(r"^vision_tower\.vision_model\."), "model.vision_tower."),
    (re.compile(r"^(?=(?:vision_tower|multi_modal_projector)\.)"), "model."),
)
"""LLaVA, Gemma 3, Mistral 3 and others, as they are stored and as they are called since 4.52."""
_VISUAL = (
    (re.compile(r"^model\.(?!visual\.|language_model\.)"), "model.language_model."),
    (re.compile(r"^visual\."), "model.visual."),
)
"""The same of Qwen2-VL and Qwen2.5-VL."""


def architecture(config: Mapping[str, object]) -> str:
    """Return the name of transformers' class that a config states, or an empty one."""
    made = config.get("architectures")
    return str(made[0]) if isinstance(made, list) and made else ""


def task_type(made: str, *, encoder_decoder: bool = False) -> str | None:
    """Return peft's word for what a model of a class is for, None where it cannot be told.

    Of a classifier neither: peft would look for its head among the saved modules.
    """
    if made.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    if made.endswith("ForConditionalGeneration") and encoder_decoder:
        return "SEQ_2_SEQ_LM"
    return None


def naming(config: Mapping[str, object], names: Collection[str]) -> Callable[[str], str]:
    """Return what turns a tensor's name into that of the parameter in transformers' model."""
    rules = _rules(config, names)

    def called(name: str) -> str:
        for pattern, there in rules:
            if pattern.search(name):
                return pattern.sub(there, name)
        return name

    return called


def _rules(
    config: Mapping[str, object], names: Collection[str]
) -> tuple[tuple[re.Pattern[str], str], ...]:
    kind = str(config.get("model_type", ""))
    if not _HEADED.search(architecture(config)):
        return ()
    if "vision_config" in config and any(n.startswith("language_model.") for n in names):
        return _TOWERS
    if "vision_config" in config and any(n.startswith("visual.") for n in names):
        return _VISUAL
    if kind in _PREFIXES and any(_BARE_STACK.search(name) for name in names):
        return ((re.compile(r"^"), f"{_PREFIXES[kind] or kind}."),)
    return ()
