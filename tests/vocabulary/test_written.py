"""The tokenizer files of a result: what is edited, what is copied, what is found wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
from tokenizers import Tokenizer
from vocabularies import side_files, tokenizer_with

from mdm_kit.errors import IntegrityError
from mdm_kit.recipe import TEMPLATE_NAMES
from mdm_kit.sources import MemorySource
from mdm_kit.vocabulary import (
    Vocabulary,
    Written,
    joined,
    named_template,
    read_vocabulary,
    template_of,
    written_files,
)
from mdm_kit.vocabulary.loading import check_written
from mdm_kit.vocabulary.special_ids import retold

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye."},
]


def source(tokenizer: Tokenizer, **settings: object) -> MemorySource:
    return MemorySource("donor", {}, side_files(tokenizer, **settings))


def files_of(model: MemorySource) -> dict[str, bytes]:
    return {n: model.side_file(n) or b"" for n in model.side_files()}


def union() -> tuple[MemorySource, Written]:
    base, other = source(tokenizer_with()), source(tokenizer_with(["<|x|>"], ["word"]))
    known = {"donor": read_vocabulary(base), "other": read_vocabulary(other)}
    made = joined("donor", known, union=True)
    return base, Written("donor", made.vocabulary, made.new)


def test_nothing_changes_where_nothing_is_asked() -> None:
    base = source(tokenizer_with())
    assert written_files(Written("donor"), files_of(base), {}) == files_of(base)


def test_added_tokens_load_and_are_checked(tmp_path: Path) -> None:
    base, written = union()
    files = written_files(written, files_of(base), {})
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    check_written(written, tmp_path, files_of(base))
    loaded = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert written.vocabulary is not None
    assert loaded.get_vocab() == written.vocabulary.ids


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda text: text.replace("<|x|>", "<|y|>"), "have other ids: '<|x|>' is None"),
        (lambda text: text[: len(text) // 2], "cannot be loaded"),
        (lambda text: text.replace('"Ġ",\n', '"Ġx",\n'), "cannot be loaded|no longer has the ids"),
    ],
)
def test_a_tokenizer_that_is_not_what_was_meant_is_found(
    tmp_path: Path, harm: object, words: str
) -> None:
    base, written = union()
    files = written_files(written, files_of(base), {})
    harmed = harm(files["tokenizer.json"].decode())  # type: ignore[operator]
    assert harmed != files["tokenizer.json"].decode()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "tokenizer.json").write_text(harmed)
    with pytest.raises(IntegrityError, match=words.replace("|x|", r"\|x\|")):
        check_written(written, tmp_path, files_of(base))


def test_lists_of_added_tokens_grow_with_the_tokenizer() -> None:
    base, written = union()
    about = json.dumps({"added_tokens_decoder": {}}).encode()
    files = files_of(base) | {"tokenizer_config.json": about, "added_tokens.json": b"{}"}
    made = written_files(written, files, {})
    assert written.vocabulary is not None
    new = {t.content: written.vocabulary.ids[t.content] for t in written.new}
    assert json.loads(made["added_tokens.json"]) == new
    decoder = json.loads(made["tokenizer_config.json"])["added_tokens_decoder"]
    assert {e["content"]: int(i) for i, e in decoder.items()} == new


def test_another_models_tokenizer_comes_whole_and_configs_follow_it() -> None:
    old = Vocabulary({"<s>": 0, "</s>": 1, "<pad>": 2, "<img>": 3}, {}, "f")
    new = Vocabulary({"</s>": 7, "<s>": 5}, {}, "f")
    donor = {"tokenizer.json": b"new", "config.json": b'{"pad_token_id": 9, "text_config": {}}'}
    config = {
        "bos_token_id": 0,
        "eos_token_id": [1, 2],
        "pad_token_id": 2,
        "image_token_index": 3,
        "hidden_size": 1,
        "text_config": {"eos_token_id": 1},
    }
    files = {
        "config.json": json.dumps(config).encode(),
        "generation_config.json": b'{"eos_token_id": 1}',
        "vocab.txt": b"gone",
        "preprocessor_config.json": b"{}",
    }
    made = written_files(Written("donor", new, replaced=old), files, donor)
    assert made.keys() == {*files, "tokenizer.json"} - {"vocab.txt"}
    assert json.loads(made["config.json"]) == {
        "bos_token_id": 5,
        "eos_token_id": [7],
        "pad_token_id": 9,
        "image_token_index": None,
        "hidden_size": 1,
        "text_config": {"eos_token_id": 7},
    }
    assert json.loads(made["generation_config.json"]) == {"eos_token_id": 7}


def test_configs_that_say_the_same_are_copied() -> None:
    same = Vocabulary({"<s>": 0}, {}, "f")
    config = {"bos_token_id": 0, "eos_token_id": None, "suppress_tokens": []}
    assert not retold(config, same, same, {})


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, None),
        ({"chat_template.jinja": b"J", "tokenizer_config.json": b'{"chat_template": "C"}'}, "J"),
        ({"tokenizer_config.json": b'{"chat_template": "C"}'}, "C"),
        ({"chat_template.json": b'{"chat_template": "P"}'}, "P"),
        (
            {
                "tokenizer_config.json": json.dumps(
                    {
                        "chat_template": [
                            {"name": "tool", "template": "T"},
                            {"name": "default", "template": "D"},
                        ]
                    }
                ).encode()
            },
            "D",
        ),
    ],
)
def test_where_templates_stand(files: dict[str, bytes], text: str | None) -> None:
    assert template_of(MemorySource("m", {}, files)) == text


def test_a_template_is_written_wherever_one_is_read() -> None:
    named = [{"name": "default", "template": "old"}, {"name": "tool", "template": "T"}]
    base = source(tokenizer_with(), chat_template=named)
    files = files_of(base) | {"chat_template.json": b'{"chat_template": "old"}'}
    made = written_files(Written("donor", chat_template="new"), files, {})
    assert made["chat_template.jinja"] == b"new"
    assert json.loads(made["chat_template.json"]) == {"chat_template": "new"}
    about = json.loads(made["tokenizer_config.json"])["chat_template"]
    assert about == [{"name": "default", "template": "new"}, named[1]]
    assert template_of(MemorySource("m", {}, made)) == "new"


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_named_templates_are_jinja_and_say_everything(name: str) -> None:
    text = named_template(name)
    assert text is not None
    template = jinja2.Environment(autoescape=True).from_string(text)
    tokens = {"bos_token": "[bos]", "eos_token": "[eos]"}
    said = template.render(messages=TALK, add_generation_prompt=True, **tokens)
    places = [said.index(m["content"]) for m in TALK]
    assert places == sorted(places)
    assert "  " not in said.replace("\n", "")


def test_an_unknown_name_is_no_template() -> None:
    assert named_template("auto") is None


def test_a_copy_is_not_checked(tmp_path: Path) -> None:
    check_written(replace(union()[1], vocabulary=None), tmp_path, {})


def test_what_no_transformers_knew_before_is_not_asked_of_it(tmp_path: Path) -> None:
    base, written = union()
    unheard = {"config.json": b'{"model_type": "unheard-of"}', "tokenizer_config.json": b"{}"}
    before = files_of(base) | unheard
    for name, data in written_files(written, before, {}).items():
        (tmp_path / name).write_bytes(data)
    check_written(written, tmp_path, before)
    (tmp_path / "tokenizer_config.json").write_bytes(b'{"tokenizer_class": 7}')
    known = before | {"tokenizer_config.json": files_of(base)["tokenizer_config.json"]}
    with pytest.raises(IntegrityError, match="transformers cannot load it"):
        check_written(written, tmp_path, known)
