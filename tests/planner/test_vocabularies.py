"""What a plan says about vocabularies: mismatches with the lines that mend them, and refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from vocabularies import EMBEDDING, HEAD, side_files, tensors, tokenizer_with

from mdm_kit.planner.plan import Plan
from mdm_kit.planner.planning import make_plan
from mdm_kit.recipe import read_recipe_text
from mdm_kit.sources import MemorySource
from mdm_kit.words import Finding, Level

HEAD_LINES = """\
merge_method: task_arithmetic
base_model: base
models:
  - {model: a, parameters: {weight: 1.0}}
  - {model: b, parameters: {weight: 1.0}}
"""


def model(
    tokenizer: Tokenizer | None,
    rows: int | None = None,
    seed: int = 0,
    files: Mapping[str, bytes] | None = None,
) -> MemorySource:
    n = rows if rows is not None else len(tokenizer.get_vocab()) if tokenizer else 300
    sides = {"config.json": json.dumps({"model_type": "llama", "vocab_size": n}).encode()}
    sides |= {} if tokenizer is None else side_files(tokenizer)
    return MemorySource.from_tensors("m", tensors(n, seed), sides | dict(files or {}))


def planned(lines: str = "", **sources: MemorySource) -> Plan:
    text = HEAD_LINES + lines + "\n"
    return make_plan(read_recipe_text(text).require(), given=sources)


def trio(
    a: MemorySource | None = None, b: MemorySource | None = None, base: MemorySource | None = None
) -> dict[str, MemorySource]:
    same = tokenizer_with()
    return {
        "base": base or model(same, seed=0),
        "a": a or model(same, seed=1),
        "b": b or model(same, seed=2),
    }


def about(plan: Plan, level: Level) -> list[Finding]:
    return [f for f in plan.findings if f.level is level]


def shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {w.name: w.shape for w in plan.writes if w.name in (EMBEDDING, HEAD)}


def test_equal_vocabularies_need_no_word() -> None:
    plan = planned(**trio())
    assert not plan.findings
    assert plan.tokenizer is None
    assert planned("tokenizer: {source: base}", **trio()).digest == plan.digest


def test_more_rows_are_an_error_that_names_the_block() -> None:
    plan = planned(**trio(b=model(tokenizer_with(["<|b|>"]))))
    (error,) = about(plan, Level.ERROR)
    assert "[300, 8] against [301, 8]" in error.message
    assert "write tokenizer: {source: union}" in error.hint
    assert "1 token ('<|b|>')" in error.hint
    assert error.place is not None
    assert error.place.line == 5
    assert not about(
        planned("tokenizer: {source: union}", **trio(b=model(tokenizer_with(["<|b|>"])))),
        Level.ERROR,
    )


def test_fewer_tokens_are_mended_by_the_base() -> None:
    big = model(tokenizer_with(["<|x|>"]))
    plan = planned(**trio(base=big, a=model(tokenizer_with(["<|x|>"])), b=model(tokenizer_with())))
    (error,) = about(plan, Level.ERROR)
    assert "write tokenizer: {source: base}" in error.hint
    assert "union" not in error.hint


def test_tokens_with_other_ids_are_an_error() -> None:
    plan = planned(
        **trio(
            base=model(tokenizer_with(["<|x|>", "<|y|>"])),
            a=model(tokenizer_with(["<|x|>", "<|y|>"])),
            b=model(tokenizer_with(["<|y|>", "<|x|>"])),
        )
    )
    (error,) = about(plan, Level.ERROR)
    assert "2 tokens of b have other ids than in base: '<|x|>' is 301 and 300" in error.message
    assert "tokenizer: {source: base}" in error.hint


def test_rows_and_ids_that_differ_are_one_error() -> None:
    base, other = tokenizer_with(["<|x|>", "<|y|>"]), tokenizer_with(["<|y|>", "<|z|>", "<|x|>"])
    (error,) = about(planned(**trio(model(base), model(other), model(base))), Level.ERROR)
    assert "2 tokens of b have other ids" in error.message
    assert "union" in error.hint


def test_models_that_give_only_layers_are_warned_of() -> None:
    text = (
        "merge_method: passthrough\nslices:\n"
        "  - sources: [{model: a, layer_range: [0, 1]}]\n"
        "  - sources: [{model: b, layer_range: [1, 2]}]\n"
    )
    one, two = tokenizer_with(["<|x|>", "<|y|>"]), tokenizer_with(["<|y|>", "<|x|>"])
    sources = {"a": model(one), "b": model(two)}
    plan = make_plan(read_recipe_text(text).require(), given=sources)
    assert [f.level for f in plan.findings if "other ids" in f.message] == [Level.WARNING]
    assert not about(plan, Level.ERROR)


def test_renamed_tokens_are_a_warning() -> None:
    plan = planned(
        **trio(
            base=model(tokenizer_with(["<|reserved|>"])),
            a=model(tokenizer_with(["<|reserved|>"])),
            b=model(tokenizer_with(["<|tool|>"])),
        )
    )
    (warning,) = about(plan, Level.WARNING)
    assert "'<|tool|>' lies where base has '<|reserved|>'" in warning.message
    assert not about(plan, Level.ERROR)


def test_tokens_in_padding_are_a_warning() -> None:
    padded = {n: model(tokenizer_with(), 304, s) for n, s in (("base", 0), ("a", 1))}
    plan = planned(**padded, b=model(tokenizer_with(["<|im_start|>"]), 304, 2))
    (warning,) = about(plan, Level.WARNING)
    assert "the result's tokenizer will not know" in warning.message
    assert "tokenizer: {source: union}" in warning.hint


def test_models_without_a_tokenizer_merge_as_before() -> None:
    assert not planned(**trio(a=model(None), b=model(None))).findings


def test_one_that_cannot_be_read_is_said_where_rows_differ() -> None:
    (error,) = about(planned(**trio(b=model(None, 310))), Level.ERROR)
    assert "that of b cannot be read" in error.hint
    (error,) = about(planned("tokenizer_source: union", **trio(b=model(None, 310))), Level.ERROR)
    assert "the vocabulary of b cannot be read, and its embedding has 310 rows" in error.message
    (warning,) = about(planned("tokenizer_source: union", **trio(b=model(None))), Level.WARNING)
    assert warning.message == "b is taken to have the vocabulary of base"


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        ("tokenizer_source: base", 320),
        ("tokenizer_source: union", 320),
        ("tokenizer_source: b", 301),
        ("tokenizer: {source: base, pad_to_multiple_of: 64}", 320),
        ("tokenizer: {source: union, pad_to_multiple_of: 128}", 384),
        ("tokenizer: {source: b, pad_to_multiple_of: 4}", 304),
    ],
)
def test_padding_of_the_base_stays(lines: str, rows: int) -> None:
    base = model(tokenizer_with(), 320)
    plan = planned(lines, base=base, a=base, b=model(tokenizer_with(["<|b|>"]), seed=2))
    assert not about(plan, Level.ERROR), plan.report()
    assert shapes(plan) == {EMBEDDING: (rows, 8), HEAD: (rows, 8)}


def test_tokens_without_rows_of_the_base_get_rows_where_somebody_has_them() -> None:
    known = tokenizer_with(["<|x|>", "<|y|>"])
    base = model(known, 300)  # a tokenizer longer than the embedding
    others = {"a": model(tokenizer_with(["<|x|>"]), seed=1), "b": model(known, 300, 2)}
    assert shapes(planned("tokenizer_source: base", base=base, **others))[EMBEDDING] == (301, 8)


def test_the_digest_depends_on_the_alignment() -> None:
    sources = trio(b=model(tokenizer_with(["<|b|>", "<|c|>"])))
    lines = 'tokenizer: {source: base, tokens: {"<|b|>": {}, "<|c|>": {source: {kind: zero}}}}'
    plans = [
        planned(text, **sources)
        for text in (
            "tokenizer_source: union",
            lines,
            lines.replace("zero", "model_token, model: b, token_id: 7"),
        )
    ]
    assert len({plan.digest for plan in plans}) == 3
    assert len({json.dumps([w.shape for w in p.writes]) for p in plans}) == 1
    assert planned(lines, **sources).digest == plans[1].digest


@pytest.mark.parametrize(
    ("lines", "words", "hint"),
    [
        ("tokenizer_source: c", "'c' is neither the base nor a model", "one of a, b, base"),
        ("tokenizer: {tokens: {x: {source: c}}}", "'c' is neither", "one of a, b, base"),
        ("tokenizer: {tokens: {'<pd>': {source: a}}}", "did you mean '<pad>'?", "kind: zero"),
        (
            "tokenizer: {tokens: {x: {source: {kind: model_token, model: a, token_id: 300}}}}",
            "a has 300 rows and none for the id 300",
            "with a row",
        ),
        (
            "tokenizer: {tokens: {x: {source: {kind: model_token, model: a, token: nil}}}}",
            "a has no token 'nil'",
            "name a model that has it",
        ),
    ],
)
def test_rules_that_name_nothing(lines: str, words: str, hint: str) -> None:
    (error,) = about(planned(lines, **trio()), Level.ERROR)
    assert words in error.message
    assert hint in error.hint
    assert error.place is not None
    assert error.place.line == 6


def test_a_token_nobody_has_is_a_warning() -> None:
    (warning,) = about(planned("tokenizer: {tokens: {new: {}}}", **trio()), Level.WARNING)
    assert "no model has 'new', so its row is zeros" in warning.message


def test_adding_needs_a_tokenizer_json() -> None:
    base = model(None, 2, files={"vocab.txt": b"a\nb\n"})
    plan = planned("tokenizer_source: union", base=base, a=base, b=model(tokenizer_with()))
    (error,) = about(plan, Level.ERROR)
    assert "which is read from vocab.txt" in error.message


def test_kept_sums_and_aligned_rows_do_not_go_together() -> None:
    text = HEAD_LINES.replace("task_arithmetic", "covmerge") + "ledger: {keep: state}\n"
    sources = trio(b=model(tokenizer_with(["<|b|>"])))
    recipe = read_recipe_text(text + "tokenizer: {source: base}\n").require()
    plan = make_plan(recipe, given=sources)
    (error,) = about(plan, Level.ERROR)
    assert "keeps sums to go on from" in error.message
    assert error.place is not None
    assert error.place.line == 6
    assert not about(make_plan(recipe, given=trio()), Level.ERROR)


def test_mergekits_rounding_of_means_is_refused() -> None:
    more = tokenizer_with(["<|x|>"])
    sources = trio(a=model(more, seed=1), b=model(more, seed=2))
    narrow = {n: s if n == "base" else _in_bfloat16(s) for n, s in sources.items()}
    recipe = read_recipe_text(HEAD_LINES + "tokenizer_source: union\n").require()
    (error,) = about(make_plan(recipe, given=narrow, compat=True), Level.ERROR)
    assert "rounds each step of a mean" in error.message
    assert not about(make_plan(recipe, given=narrow), Level.ERROR)
    other = recipe.text.replace("union", "base")
    assert not about(
        make_plan(read_recipe_text(other).require(), given=narrow, compat=True), Level.ERROR
    )


def _in_bfloat16(source: MemorySource) -> MemorySource:
    sides = {n: source.side_file(n) or b"" for n in source.side_files()}
    n = source.headers().tensors[HEAD].shape[0]
    return MemorySource.from_tensors("m", tensors(n, 3, torch.bfloat16), sides)


def test_templates_that_differ_are_noted() -> None:
    sources = trio(b=model(tokenizer_with(), seed=2, files={"chat_template.jinja": b"{{ 1 }}"}))
    (note,) = planned(**sources).findings
    assert note.level is Level.NOTE
    assert "chat templates of b differ" in note.message
    assert not planned("chat_template: auto", **sources).findings
    (warning,) = about(planned("chat_template: auto", **trio()), Level.WARNING)
    assert "no model has a chat template" in warning.message


def test_biases_and_other_axes_are_aligned_with_the_embedding(tmp_path: Path) -> None:
    def with_bias(tokenizer: Tokenizer, seed: int) -> MemorySource:
        n = len(tokenizer.get_vocab())
        made = tensors(n, seed)
        made["lm_head.bias"] = made[HEAD][:, 0].clone()
        made["final_logits_bias"] = made[HEAD][:, 1].reshape(1, n).clone()
        made["model.other.weight"] = made[HEAD][:300].clone()
        return MemorySource.from_tensors("m", made, side_files(tokenizer))

    sources = {
        "base": with_bias(tokenizer_with(), 0),
        "a": with_bias(tokenizer_with(), 1),
        "b": with_bias(tokenizer_with(["<|b|>"]), 2),
    }
    plan = planned("tokenizer_source: union", **sources)
    made = {w.name: w.shape for w in plan.writes}
    assert made["lm_head.bias"] == (301,)
    assert made["final_logits_bias"] == (1, 301)
    assert made["model.other.weight"] == (300, 8)
    plan.close()


def test_an_embedding_that_is_no_vocabulary_stops_it() -> None:
    def odd(tokenizer: Tokenizer, seed: int) -> MemorySource:
        made = tensors(len(tokenizer.get_vocab()), seed)
        made["audio.embed_tokens.weight"] = made[HEAD][:50].clone()
        return MemorySource.from_tensors("m", made, side_files(tokenizer))

    sources = {n: odd(tokenizer_with(), i) for i, n in enumerate(("base", "a"))}
    sources["b"] = odd(tokenizer_with(["<|b|>"]), 2)
    (error,) = about(planned("tokenizer_source: union", **sources), Level.ERROR)
    assert "audio.embed_tokens.weight has not as many rows" in error.message


def test_words_are_models_of_their_own() -> None:
    level = Tokenizer(models.WordLevel({"a": 0, "b": 1}))
    other = Tokenizer(models.WordLevel({"b": 0, "a": 1, "c": 2}))
    plan = planned(**trio(base=model(level), a=model(level), b=model(other)))
    assert {f.level for f in plan.findings} == {Level.ERROR}
    fixed = planned(
        "tokenizer_source: union", **trio(base=model(level), a=model(level), b=model(other))
    )
    assert shapes(fixed)[EMBEDDING] == (3, 8)
