"""`tokenizer.json`, the file of the `tokenizers` library: read as JSON, and edited as JSON.

An added token's id in the file is only a claim. Whoever loads it counts anew: a token the model has
keeps its id there, any other gets the next free one. What is counted here is what runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mdm_kit.errors import IntegrityError
from mdm_kit.vocabulary.vocabulary import MAX_ID, AddedToken, Vocabulary
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILE = "tokenizer.json"
_FLAGS = ("special", "normalized", "single_word", "lstrip", "rstrip")


def parse(who: str, data: bytes) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json; raises `IntegrityError` for what is none."""
    root = loaded(who, FILE, data)
    ids = _model_ids(who, root.get("model"))
    added: dict[str, AddedToken] = {}
    free = _Free(len(ids))
    for entry in _entries(who, root.get("added_tokens")):
        token = _added(who, entry)
        if token.content not in ids:
            ids[token.content] = free.next()
        free.taken(ids[token.content])
        added.setdefault(token.content, token)
    return Vocabulary(ids, added, FILE)


def with_tokens(who: str, data: bytes, tokens: Mapping[str, int], new: Sequence[AddedToken]) -> str:
    """Return the text of a tokenizer.json with the added tokens `new`, under their ids in `tokens`.

    `tokens` is the whole vocabulary. Where counting would give another id, because the model's own
    ids have holes, all added tokens are put into the model's vocabulary, ids and all. Raises
    `IntegrityError` where even that cannot be done.
    """
    root = loaded(who, FILE, data)
    entries = root["added_tokens"] = _entries(who, root.get("added_tokens"))
    entries += [_entry(token, tokens[token.content]) for token in new]
    if gone := [e for e in entries if e.get("content") not in tokens]:
        raise _wrong(who, FILE, "the tokens it had", shown(repr(gone[0].get("content")), 60))
    if not _counts_right(who, root, tokens):
        vocabulary = root["model"].get("vocab")
        if not isinstance(vocabulary, dict):
            raise IntegrityError(
                f"{shown(who)}: {FILE} has added tokens that no loader would give the ids written "
                "there, and a model of a kind that cannot hold them; save it with a newer "
                "transformers, or name another tokenizer"
            )
        for entry in entries:
            entry["id"] = vocabulary[entry["content"]] = tokens[entry["content"]]
    return json.dumps(root, ensure_ascii=False, indent=2) + "\n"


def loaded(who: str, file: str, data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`; raises `IntegrityError` where there is none."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{shown(who)}: {file} is not JSON ({shown(str(error))}); get the file again or mend it"
        ) from None
    if not isinstance(root, dict):
        raise _wrong(who, file, "a JSON object", type(root).__name__)
    return root


def checked_id(who: str, file: str, token: str, value: object) -> int:
    """Return a token's id; raises `IntegrityError` for what can be none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        wanted = f"an id from 0 to {MAX_ID:,} for the token '{shown(token, 60)}'"
        raise _wrong(who, file, wanted, shown(repr(value), 60))
    return value


def _wrong(who: str, file: str, wanted: str, found: str) -> IntegrityError:
    return IntegrityError(f"{shown(who)}: {file} should hold {wanted}, found {found}")


class _Free:
    """Counts ids as `tokenizers` does when it adds a token its model does not have."""

    def __init__(self, n_model: int) -> None:
        self._n_model = n_model
        self._highest = -1

    def next(self) -> int:
        return self._highest + 1 if self._highest >= self._n_model else self._n_model

    def taken(self, i: int) -> None:
        self._highest = max(self._highest, i)


def _counts_right(who: str, root: dict[str, Any], tokens: Mapping[str, int]) -> bool:
    ids = _model_ids(who, root.get("model"))
    free = _Free(len(ids))
    for entry in root["added_tokens"]:
        content = entry["content"]
        ids.setdefault(content, free.next())
        free.taken(ids[content])
        if ids[content] != tokens[content]:
            return False
    return True


def _model_ids(who: str, model: object) -> dict[str, int]:
    """Return the ids of a tokenizer's model: a mapping, or the list of a Unigram model."""
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return {t: checked_id(who, FILE, t, i) for t, i in vocabulary.items()}
    if isinstance(vocabulary, list):
        pieces = [p[0] if isinstance(p, list) and p else None for p in vocabulary]
        if all(isinstance(p, str) for p in pieces):
            ids: dict[str, int] = {}
            for i, piece in enumerate(pieces):
                ids[str(piece)] = i  # of two alike the last one counts, as for its loader
            return ids
    raise _wrong(who, FILE, "a model with a vocabulary", "none")


def _entries(who: str, entries: object) -> list[dict[str, Any]]:
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise _wrong(who, FILE, "a list of added tokens", "something else")
    return entries


def _added(who: str, entry: Mapping[str, Any]) -> AddedToken:
    token = added_token(entry)
    if token is None:
        raise _wrong(who, FILE, "the text of each added token", "none")
    return token


def added_token(entry: Mapping[str, Any]) -> AddedToken | None:
    """Return the added token a JSON object describes, None where it has no text."""
    content = entry.get("content")
    if not isinstance(content, str):
        return None
    special, normalized, single_word, lstrip, rstrip = (entry.get(flag) is True for flag in _FLAGS)
    return AddedToken(content, special, normalized, single_word, lstrip, rstrip)


def _entry(token: AddedToken, i: int) -> dict[str, Any]:
    flags = {flag: getattr(token, flag) for flag in _FLAGS}
    return {"id": i, "content": token.content, **flags}
