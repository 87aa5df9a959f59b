"""The small files beside the weights that may travel with a model, and no others.

An allow-list: configuration, tokenizer, templates, licences. Never a `.py`, never a README.
"""

from __future__ import annotations

import re

from mdm_kit.errors import UsageError
from mdm_kit.words import shown

MAX_SIDE_FILE_BYTES = 64 * 1024 * 1024
"""Twice the largest tokenizer.json in wide use (Gemma 3, 33 MB)."""

TOKENIZER_FILES = frozenset(
    {
        "added_tokens.json",
        "bpe.codes",
        "chat_template.jinja",
        "chat_template.json",
        "merges.txt",
        "normalizer.json",
        "sentencepiece.bpe.model",
        "source.spm",
        "special_tokens_map.json",
        "spiece.model",
        "spm.model",
        "target.spm",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer.model.v3",
        "tokenizer_config.json",
        "vocab.bpe",
        "vocab.json",
        "vocab.txt",
    }
)
"""The side files that make a tokenizer, and its chat templates."""

TOP_LEVEL = TOKENIZER_FILES | {
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "image_processor_config.json",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "video_preprocessor_config.json",
}
"""The names transformers and sentence-transformers read beside the weights."""

LEGAL = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt")
"""What a licence asks to travel with it. No loader reads them, and no model needs them."""

TEMPLATE_FOLDER = "additional_chat_templates"

_PATTERNS = re.compile(
    r"[A-Za-z0-9][\w.-]*\.tiktoken"
    rf"|{TEMPLATE_FOLDER}/[A-Za-z0-9][\w.-]*\.jinja"
    # The modules of sentence-transformers, some of which have small weights of their own.
    r"|[0-9]{1,2}_[A-Za-z]{1,40}/(?:config\.json|model\.safetensors)",
    re.ASCII,
)

_FOLDERS = re.compile(rf"{TEMPLATE_FOLDER}|[0-9]{{1,2}}_[A-Za-z]{{1,40}}", re.ASCII)


def is_side_file(name: str) -> bool:
    """Return whether `name`, a path with `/` from the model's top, is on the allow-list."""
    return name in TOP_LEVEL or _PATTERNS.fullmatch(name) is not None


def holds_side_files(folder: str) -> bool:
    """Return whether a subfolder of this name may hold side files."""
    return _FOLDERS.fullmatch(folder) is not None


def allowed(name: str) -> str:
    """Return `name` if it is on the allow-list, else raise `UsageError`."""
    if not is_side_file(name) and name not in LEGAL:
        raise UsageError(
            f"'{shown(name)}' is not a side file; only configuration, tokenizer and template files "
            "travel with a model"
        )
    return name
