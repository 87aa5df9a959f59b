"""Vocabularies that are not in a tokenizer.json: vocab.json, vocab.txt, sentencepiece's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError
from mdm_kit.vocabulary.tokenizer_json import added_token, checked_id, loaded
from mdm_kit.vocabulary.vocabulary import AddedToken, Vocabulary
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""How a field of a protocol buffer says its length."""
_PIECES = 1
"""The field of a sentencepiece model that holds one piece; a piece's own field 1 is its text."""


def parse_vocab_json(who: str, data: bytes) -> Vocabulary:
    """Return the vocabulary of a vocab.json, a mapping from tokens to ids."""
    root = loaded(who, "vocab.json", data)
    ids = {t: checked_id(who, "vocab.json", t, i) for t, i in root.items()}
    return Vocabulary(ids, {}, "vocab.json")


def parse_vocab_txt(who: str, data: bytes) -> Vocabulary:
    """Return the vocabulary of a vocab.txt: a token in each line, whose number is its id."""
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise IntegrityError(
            f"{shown(who)}: vocab.txt should be UTF-8, found other bytes; get the file again"
        ) from None
    if lines and not lines[-1]:
        lines.pop()
    ids = {line.rstrip("\r"): i for i, line in enumerate(lines)}
    return Vocabulary(ids, {}, "vocab.txt")


def parse_sentencepiece(data: bytes) -> Vocabulary | None:
    """Return the vocabulary of a sentencepiece model, None where the bytes are none.

    Only the pieces are looked at: their order gives their ids.
    """
    ids: dict[str, int] = {}
    n = 0
    try:
        for field, value in _fields(data):
            if field == _PIECES and isinstance(value, bytes):
                texts = [v for f, v in _fields(value) if f == 1 and isinstance(v, bytes)]
                ids.setdefault(texts[0].decode("utf-8"), n)
                n += 1
    except (ValueError, IndexError):
        return None
    return Vocabulary(ids, {}, "tokenizer.model") if ids else None


def with_added(who: str, read: Vocabulary, file: str, data: bytes) -> Vocabulary:
    """Return a vocabulary with what an added_tokens.json or tokenizer_config.json adds to it.

    What it has already stays as it is; ids that are taken are left to who has them.
    """
    root = loaded(who, file, data)
    ids, added = dict(read.ids), dict(read.added)
    taken = set(ids.values())
    for token, i in _listed(who, file, root):
        if token.content in ids:
            added.setdefault(token.content, token)
        elif i not in taken:
            ids[token.content] = i
            added[token.content] = token
            taken.add(i)
    return Vocabulary(ids, added, read.file)


def _listed(who: str, file: str, root: dict[str, object]) -> Iterator[tuple[AddedToken, int]]:
    if file == "added_tokens.json":
        for text, i in root.items():
            yield AddedToken(text), checked_id(who, file, text, i)
        return
    decoder = root.get("added_tokens_decoder")
    for key, entry in decoder.items() if isinstance(decoder, dict) else ():
        token = added_token(entry) if isinstance(entry, dict) else None
        if token is not None and isinstance(key, str) and key.isascii() and key.isdecimal():
            yield token, checked_id(who, file, token.content, int(key[:12]))


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the fields of a protocol buffer; raises ValueError or IndexError for other bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        if kind == _BYTES:
            n, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            n = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if field == 0 or at + n > len(data):
            raise ValueError("a field that ends behind the data")
        yield field, data[at : at + n]
        at += n


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
