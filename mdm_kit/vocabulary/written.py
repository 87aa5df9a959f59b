"""The tokenizer files of a result: copied where nothing changed, else edited, as little as can be.

Whoever loads a tokenizer counts added tokens anew, so what was edited is loaded and tried before
the result is sealed (`loading`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mdm_kit.vocabulary import tokenizer_json
from mdm_kit.vocabulary.chat_templates import with_template
from mdm_kit.vocabulary.reading import is_tokenizer_file
from mdm_kit.vocabulary.special_ids import retold
from mdm_kit.vocabulary.tokenizer_json import loaded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mdm_kit.vocabulary.vocabulary import AddedToken, Vocabulary

CONFIGS = ("config.json", "generation_config.json")
"""The files that name tokens by their ids."""


@dataclass(frozen=True)
class Written:
    """What the result's tokenizer files are to be.

    They are those of the model `donor`, with the tokens `new`, and `chat_template` where that is
    not None. `vocabulary` is what they then hold, None where nobody has read it. Where the configs
    come from another model, `replaced` is that one's vocabulary, whose ids they name.
    """

    donor: str
    vocabulary: Vocabulary | None = None
    new: tuple[AddedToken, ...] = ()
    chat_template: str | None = None
    replaced: Vocabulary | None = None

    @property
    def is_copy(self) -> bool:
        """Whether all files are copied as they are."""
        return not self.new and self.chat_template is None and self.replaced is None


def written_files(
    written: Written, files: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return a result's side files.

    `files` are those of the model that gives the configs, `theirs` of the model `written.donor`.
    Raises `IntegrityError` for files that are not what their names say.
    """
    made = dict(files)
    if written.replaced is not None:
        made = {n: data for n, data in made.items() if not is_tokenizer_file(n)}
        made |= {n: data for n, data in theirs.items() if is_tokenizer_file(n)}
        made |= _retold(written, made, theirs)
    if written.new:
        made |= _with_new(written, made)
    if written.chat_template is not None:
        made = with_template(written.donor, made, written.chat_template)
    return made


def _retold(
    written: Written, made: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> dict[str, bytes]:
    assert written.replaced is not None  # noqa: S101 -- asked by who calls
    assert written.vocabulary is not None  # noqa: S101 -- replaced ones were read
    changed = {}
    for name in CONFIGS:
        if name in made:
            stated = loaded(written.donor, name, theirs[name]) if name in theirs else {}
            config = loaded(written.donor, name, made[name])
            if retold(config, written.replaced, written.vocabulary, stated):
                changed[name] = _json(config)
    return changed


def _with_new(written: Written, made: Mapping[str, bytes]) -> dict[str, bytes]:
    assert written.vocabulary is not None  # noqa: S101 -- nothing is added to the unknown
    ids, who = written.vocabulary.ids, written.donor
    text = tokenizer_json.with_tokens(who, made[tokenizer_json.FILE], ids, written.new)
    changed = {tokenizer_json.FILE: text.encode()}
    name = "tokenizer_config.json"
    if name in made:
        config = loaded(who, name, made[name])
        decoder = config.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            decoder |= {str(ids[t.content]): _entry(t) for t in written.new}
            changed[name] = _json(config)
    name = "added_tokens.json"
    if name in made:
        listed = loaded(who, name, made[name])
        listed |= {t.content: ids[t.content] for t in written.new}
        changed[name] = _json(listed)
    return changed


def _entry(token: AddedToken) -> dict[str, Any]:
    return {
        "content": token.content,
        "lstrip": token.lstrip,
        "normalized": token.normalized,
        "rstrip": token.rstrip,
        "single_word": token.single_word,
        "special": token.special,
    }


def _json(root: dict[str, Any]) -> bytes:
    return (json.dumps(root, indent=2, ensure_ascii=False) + "\n").encode()
