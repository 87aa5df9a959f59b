"""Which of a model's side files holds its vocabulary, and what it says."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING

from mdm_kit.errors import MisfitError
from mdm_kit.sources.side_files import TOKENIZER_FILES
from mdm_kit.vocabulary import tokenizer_json
from mdm_kit.vocabulary.older_files import (
    parse_sentencepiece,
    parse_vocab_json,
    parse_vocab_txt,
    with_added,
)
from mdm_kit.vocabulary.vocabulary import Vocabulary
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.sources import Source

_SAVE = (
    "save it once with AutoTokenizer.from_pretrained(...).save_pretrained(...), which writes a "
    "tokenizer.json, and merge that folder"
)


def is_tokenizer_file(name: str) -> bool:
    """Whether a side file belongs to the tokenizer, and not to weights or configuration."""
    templates = name.startswith("additional_chat_templates/")
    return name in TOKENIZER_FILES or templates or fnmatch.fnmatchcase(name, "*.tiktoken")


def has_tokenizer(source: Source) -> bool:
    """Whether a model has any file of a tokenizer."""
    return any(map(is_tokenizer_file, source.side_files()))


def read_vocabulary(source: Source, known: dict[str, Vocabulary] | None = None) -> Vocabulary:
    """Return a model's vocabulary, out of its side files.

    `known` holds what was read of the large file of other models by its digest, and gets what is
    read now, so that what many models share is fetched once. Raises `MisfitError` where nothing can
    be read as data, `IntegrityError` where a file is not what its name says.
    """
    found = _main(source, {} if known is None else known)
    if found is None:
        have = [n for n in source.side_files() if is_tokenizer_file(n)]
        what = f"only {', '.join(map(shown, have))}" if have else "no tokenizer files"
        raise MisfitError(
            f"{shown(source.name)} has {what}, from which its vocabulary cannot be read; {_SAVE}"
        )
    for file in ("tokenizer_config.json", "added_tokens.json"):
        data = source.side_file(file)
        if data is not None:
            found = with_added(source.name, found, file, data)
    return found


def _main(source: Source, known: dict[str, Vocabulary]) -> Vocabulary | None:
    names = source.side_files()
    # spiece.model and sentencepiece.bpe.model are not read: their classes shift the ids.
    file = next((n for n in _PARSERS if n in names), None)
    if file is None:
        return None
    digest = f"{file} {source.side_digest(file)}"
    if digest not in known:
        found = _PARSERS[file](source.name, source.side_file(file) or b"")
        if found is None:
            return None
        known[digest] = found
    return known[digest]


_PARSERS: dict[str, Callable[[str, bytes], Vocabulary | None]] = {
    tokenizer_json.FILE: tokenizer_json.parse,
    "vocab.json": parse_vocab_json,
    "vocab.txt": parse_vocab_txt,
    "tokenizer.model": lambda _, data: parse_sentencepiece(data),
}
"""How each file is read, those that know most first."""
