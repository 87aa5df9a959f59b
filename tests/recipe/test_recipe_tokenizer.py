"""The tokenizer block and the chat template of a recipe: read, refused, written again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mdm_kit.recipe import (
    LocatedRef,
    ModelToken,
    Parsed,
    Recipe,
    Scalar,
    Zero,
    edited_text,
    read_recipe_text,
    rewrite_references,
)

HEAD = "merge_method: linear\nmodels: [{model: org/a}, {model: org/b@v1}]\n"

FULL = """\
tokenizer:
  source: org/b@v1
  tokens:
    "<|im_start|>": {source: org/a}
    "<|x|>": {source: {kind: model_token, model: org/a, token: "<s>"}, force: true}
    new: {source: {kind: model_token, model: {path: org/b, revision: v1}, token_id: 7}}
    nil: {source: {kind: zero}}
    any: {}
  pad_to_multiple_of: 64
chat_template: chatml
"""


def with_lines(lines: str) -> Parsed:
    return read_recipe_text(HEAD + lines + "\n")


def read(lines: str) -> Recipe:
    return with_lines(lines).require()


def test_every_part_of_the_block() -> None:
    asked = read(FULL).tokenizer
    assert asked is not None
    assert isinstance(asked.source, LocatedRef)
    assert str(asked.source.ref) == "org/b@v1"
    assert asked.pad_to_multiple_of == 64
    rules = {r.token: r for r in asked.tokens}
    assert list(rules) == ["<|im_start|>", "<|x|>", "new", "nil", "any"]
    assert [r.force for r in rules.values()] == [False, True, False, False, False]
    x, new = rules["<|x|>"].source, rules["new"].source
    assert isinstance(x, ModelToken)
    assert (x.token, x.token_id) == ("<s>", None)
    assert isinstance(new, ModelToken)
    assert (new.token, new.token_id, str(new.model.ref)) == (None, 7, "org/b@v1")
    assert rules["nil"].source == Zero()
    assert rules["any"].source is None
    assert [str(r.ref) for r in asked.references] == ["org/b@v1", "org/a", "org/a", "org/b@v1"]


@pytest.mark.parametrize(
    ("lines", "source"),
    [
        ("tokenizer_source: union", "union"),
        ("tokenizer_source: base", "base"),
        ("tokenizer: {}", "union"),  # mergekit's default
        ("tokenizer: {pad_to_multiple_of: 8}", "union"),
        ("tokenizer: {source: base, tokens: null}", "base"),
    ],
)
def test_the_words_for_a_source(lines: str, source: str) -> None:
    asked = read(lines).tokenizer
    assert asked is not None
    assert asked.source == source
    assert read(lines).dialect


def test_nothing_is_asked_by_a_null() -> None:
    assert read("tokenizer_source: null\ntokenizer: ~\nchat_template: null").tokenizer is None


def test_only_the_plain_base_is_plain() -> None:
    plain = [
        lines
        for lines in ("source: base", "source: union", "source: base, pad_to_multiple_of: 8")
        if (asked := read(f"tokenizer: {{{lines}}}").tokenizer) and asked.is_plain
    ]
    assert plain == ["source: base"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("tokenizer: base", "tokenizer: expected a mapping"),
        ("tokenizer: {sorce: base}", "unknown key 'sorce' of tokenizer; did you mean 'source'?"),
        ("tokenizer: {source: [base]}", "tokenizer.source: expected a model, found a list"),
        ("tokenizer_source: a@b@c", "tokenizer_source: found more than one '@'"),
        ("tokenizer: {tokens: [a]}", "tokenizer.tokens: expected a mapping, found a list"),
        ("tokenizer: {tokens: {a: org/a}}", "'a': expected a mapping, found a single value"),
        ("tokenizer: {tokens: {'': {}}}", "expected a token, found an empty text"),
        ("tokenizer: {tokens: {a: {sauce: b}}}", "unknown key 'sauce' of the token 'a'"),
        ("tokenizer: {tokens: {a: {force: true}}}", "expected a 'source' beside 'force'"),
        ("tokenizer: {tokens: {a: {source: b, force: 2}}}", "force: expected true or false"),
        ("tokenizer: {tokens: {a: {source: {kind: zro}}}}", "did you mean 'zero'?"),
        ("tokenizer: {tokens: {a: {source: {kind: zero, x: 1}}}}", "unknown key 'x'"),
        (
            "tokenizer: {tokens: {a: {source: {kind: model_token, model: m}}}}",
            "either its token or its token_id",
        ),
        (
            "tokenizer: {tokens: {a: {source: {kind: model_token, model: m, token: x,"
            " token_id: 1}}}}",
            "either its token or its token_id",
        ),
        (
            "tokenizer: {tokens: {a: {source: {kind: model_token, token: x}}}}",
            "expected a model",
        ),
        (
            "tokenizer: {tokens: {a: {source: {kind: model_token, model: m, token_id: -1}}}}",
            "token_id: expected a number from 0 to",
        ),
        ("tokenizer: {pad_to_multiple_of: 0}", "pad_to_multiple_of: expected a number from 1"),
        ("tokenizer: {pad_to_multiple_of: eight}", "expected a whole number, found 'eight'"),
        ("chat_template: [a]", "chat_template: expected a text, found a list"),
        ("chat_template: chatmll", "found 'chatmll'; did you mean 'chatml'?"),
        ("chat_template: a text of more than twenty characters", "with a '{'"),
    ],
)
def test_what_is_wrong_has_its_place(lines: str, words: str) -> None:
    found = with_lines(lines).findings
    assert len(found) == 1, found
    assert words in found[0].message
    assert found[0].place is not None
    assert found[0].place.line == 3


def test_a_template_is_taken_as_it_is() -> None:
    text = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    template = read(f'chat_template: "{text}"').chat_template
    assert template is not None
    assert template.text == text


def test_an_edited_recipe_keeps_a_template_to_the_letter() -> None:
    text = "{% if a %}\n  'b' \"c\" \\n é 😀 # d\n{% endif %}\t"
    before = read("seed: 0")
    made = replace(before, chat_template=Scalar(text))
    again = read_recipe_text(edited_text(made)).require()
    assert again.chat_template is not None
    assert again.chat_template.text == text


def test_an_edited_recipe_asks_for_the_same() -> None:
    before = read(FULL)
    again = read_recipe_text(edited_text(before)).require()
    assert edited_text(again) == edited_text(before)
    assert again.chat_template is not None
    assert again.chat_template.text == "chatml"
    for recipe in (before, again):
        assert recipe.tokenizer is not None
    old, new = before.tokenizer, again.tokenizer
    assert old is not None
    assert new is not None
    assert new.pad_to_multiple_of == old.pad_to_multiple_of
    assert [(r.token, r.force) for r in new.tokens] == [(r.token, r.force) for r in old.tokens]
    assert [str(r.ref) for r in new.references] == [str(r.ref) for r in old.references]


def test_references_of_the_block_are_replaced_too() -> None:
    text = rewrite_references(read(FULL), lambda ref: f"pinned/{ref.path.replace('/', '-')}")
    assert "org/" not in text
    recipe = read_recipe_text(text).require()
    assert recipe.tokenizer is not None
    pinned = ["pinned/org-b", "pinned/org-a", "pinned/org-a", "pinned/org-b"]
    assert [str(r.ref) for r in recipe.tokenizer.references] == pinned
