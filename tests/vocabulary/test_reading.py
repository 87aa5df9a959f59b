"""Vocabularies read as data are those that the libraries load."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from tokenizers import AddedToken, Tokenizer, models
from vocabularies import trained

from mdm_kit.errors import IntegrityError, MisfitError
from mdm_kit.sources import MemorySource
from mdm_kit.vocabulary import Vocabulary, read_vocabulary
from mdm_kit.vocabulary.older_files import parse_sentencepiece
from mdm_kit.vocabulary.tokenizer_json import parse, with_tokens

LETTERS = {c: i for i, c in enumerate("abcdefgh")}
HOLES = {"a": 0, "b": 1, "z": 15}

MODELS = {
    "BPE": Tokenizer.from_str(trained()),
    "BPE with holes": Tokenizer(models.BPE(vocab=HOLES, merges=[])),
    "Unigram": Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("▁b", -2.0)], 0)),
    "WordPiece": Tokenizer(models.WordPiece(LETTERS | {"[UNK]": 8})),
    "WordLevel": Tokenizer(models.WordLevel(LETTERS)),
}


def with_sides(files: Mapping[str, bytes]) -> MemorySource:
    return MemorySource("model", {}, files)


def read(files: Mapping[str, bytes]) -> Vocabulary:
    return read_vocabulary(with_sides(files))


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_has_the_ids_its_library_gives(kind: str) -> None:
    tokenizer = Tokenizer.from_str(MODELS[kind].to_str())
    tokenizer.add_special_tokens(["<one>", "a"])
    tokenizer.add_tokens([AddedToken("two", lstrip=True, normalized=False)])
    found = parse("model", tokenizer.to_str().encode())
    assert found.ids == tokenizer.get_vocab()
    assert found.added["<one>"].special
    assert found.added["two"].lstrip
    assert not found.added["two"].normalized


def test_ids_that_are_only_claimed_are_counted_anew() -> None:
    root = json.loads(MODELS["WordLevel"].to_str())
    entry = {"content": "<far>", "special": True, "normalized": False, "single_word": False}
    root["added_tokens"] = [entry | {"id": 99, "lstrip": False, "rstrip": False}]
    text = json.dumps(root)
    assert parse("model", text.encode()).ids == Tokenizer.from_str(text).get_vocab()


@pytest.mark.parametrize("kind", ["BPE", "Unigram", "WordPiece", "WordLevel"])
def test_tokens_that_are_added_load_under_their_ids(kind: str) -> None:
    from mdm_kit.vocabulary import AddedToken as Added

    text = MODELS[kind].to_str()
    before = parse("model", text.encode())
    new = (Added("<x>", special=True, normalized=False), Added("plain", normalized=False))
    ids = {**before.ids, "<x>": before.end, "plain": before.end + 1}
    loaded = Tokenizer.from_str(with_tokens("model", text.encode(), ids, new))
    assert loaded.get_vocab() == ids
    assert loaded.encode("a<x>a").ids.count(before.end) == 1


def test_tokens_are_added_behind_holes_with_those_that_lay_in_them() -> None:
    from mdm_kit.vocabulary import AddedToken as Added

    tokenizer = Tokenizer.from_str(MODELS["BPE with holes"].to_str())
    tokenizer.add_special_tokens(["<old>"])
    before = parse("model", tokenizer.to_str().encode())
    assert before.ids["<old>"] == 3  # counted from the number of tokens: in the hole
    ids = {**before.ids, "<new>": before.end}
    new = (Added("<new>", special=True, normalized=False),)
    text = with_tokens("model", tokenizer.to_str().encode(), ids, new)
    assert Tokenizer.from_str(text).get_vocab() == ids


def test_vocab_json_and_what_is_beside_it() -> None:
    decoder = {"4": {"content": "<y>", "special": True}, "1": {"content": "taken"}}
    found = read(
        {
            "vocab.json": b'{"a": 0, "b": 1, "c": 2}',
            "merges.txt": b"#version: 0.2\n",
            "added_tokens.json": b'{"<x>": 3}',
            "tokenizer_config.json": json.dumps({"added_tokens_decoder": decoder}).encode(),
        }
    )
    assert found.ids == {"a": 0, "b": 1, "c": 2, "<x>": 3, "<y>": 4}
    assert found.added["<y>"].special


def test_vocab_txt_counts_lines() -> None:
    assert read({"vocab.txt": "[PAD]\r\n[UNK]\nfür\n".encode()}).ids == {
        "[PAD]": 0,
        "[UNK]": 1,
        "für": 2,
    }


def piece(text: str) -> bytes:
    raw = text.encode()
    inner = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + b"\0\0\x80\xbf" + b"\x18\x01"
    return b"\x0a" + bytes([len(inner)]) + inner


def test_a_sentencepiece_model_counts_pieces() -> None:
    data = piece("<unk>") + piece("<s>") + piece("▁the") + b"\x12\x02\x08\x01"
    assert read({"tokenizer.model": data}).ids == {"<unk>": 0, "<s>": 1, "▁the": 2}


@pytest.mark.parametrize(
    "data", [b"", b"IQ== 0\nIg== 1\n", b"\x0a\x7f", b"\x0a\x02\x0a\x7f", b"\xff" * 20]
)
def test_other_bytes_are_no_sentencepiece_model(data: bytes) -> None:
    assert parse_sentencepiece(data) is None


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tekken.json": b"{}"},
        {"tokenizer.model": b"IQ== 0\n"},
        {"spiece.model": piece("a")},
        {"tokenizer_config.json": b"{}"},
    ],
)
def test_what_cannot_be_read_is_refused_with_a_way_out(files: Mapping[str, bytes]) -> None:
    with pytest.raises(MisfitError, match="save it once with AutoTokenizer"):
        read(files)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "a JSON object, found list"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "a model with a vocabulary"),
        ('{"model": {"vocab": {"a": -1}}}', "an id from 0"),
        ('{"model": {"vocab": {"a": true}}}', "an id from 0"),
        ('{"model": {"vocab": {"a": 1e99}}}', "an id from 0"),
        ('{"model": {"vocab": {"a": 2147483648}}}', "an id from 0"),
        ('{"model": {"vocab": [1]}}', "a model with a vocabulary"),
        ('{"model": {"vocab": {}}, "added_tokens": {}}', "a list of added tokens"),
        ('{"model": {"vocab": {}}, "added_tokens": [{"id": 1}]}', "the text of each added token"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(text: str, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        parse("model", text.encode())


def test_what_models_share_is_read_once() -> None:
    files = {"tokenizer.json": trained().encode()}
    known: dict[str, Vocabulary] = {}
    first = read_vocabulary(with_sides(files), known)
    assert read_vocabulary(with_sides({**files, "config.json": b"{}"}), known) is first
    assert len(known) == 1
