"""Whole recipes: every key honoured or refused by name, all findings at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.recipe import Parsed, Scalar, load_recipe_file, read_recipe_text
from mdm_kit.recipe.keys import TOP_KEYS, TOP_REFUSED
from mdm_kit.words import OUT_DTYPES, Kind, Level, ModelRef, Place

if TYPE_CHECKING:
    from pathlib import Path

FULL = """\
# three skills
merge_method: mdm_oc
base_model: org/base-1b@d04e592
models:
  - {model: org/base-1b-math@9a1f003, name: math, parameters: {weight: 1.0}}
  - {model: org/base-1b-code, name: code, parameters: {weight: 0.8}}
  - {model: org/base-1b+org/chat-lora, name: chat}
parameters:
  scope: tensor
dtype: bfloat16
out_dtype: torch.float32
tokenizer: {source: base}
seed: 7
name: stage
license: apache-2.0
ledger: {keep: none}
coefficients: {method: fixed}
"""

PLAIN = """\
merge_method: ties
base_model: org/base
models:
  - model: org/base
  - model: org/a
    parameters:
      weight: [0, 0.3, 1]
      density: [{filter: mlp, value: 0.5}, {value: 1.0}]
parameters: {normalize: true, int8_mask: true}
dtype: float16
tokenizer_source: base
"""


def with_line(line: str) -> Parsed:
    """Return a small recipe with one more line at its end, which is line 3."""
    return read_recipe_text(f"merge_method: linear\nmodels: [{{model: org/a}}]\n{line}\n")


def only_message(parsed: Parsed) -> str:
    assert len(parsed.findings) == 1, parsed.findings
    finding = parsed.findings[0]
    assert (finding.level, finding.kind) == (Level.ERROR, Kind.RECIPE)
    assert finding.place is not None
    return finding.message


def test_a_recipe_with_every_key() -> None:
    parsed = read_recipe_text(FULL)
    assert parsed.findings == ()
    assert parsed.ok
    recipe = parsed.require()
    assert recipe.text == FULL
    assert recipe.merge_method == Scalar("mdm_oc")
    assert [r.ref for r in recipe.references][:2] == [
        ModelRef("org/base-1b", "d04e592"),
        ModelRef("org/base-1b-math", "9a1f003"),
    ]
    assert [m.name for m in recipe.models] == ["math", "code", "chat"]
    assert [m.setting("weight") for m in recipe.models] == [Scalar("1.0"), Scalar("0.8"), None]
    assert recipe.setting("scope") == Scalar("tensor")
    assert recipe.dtype == OUT_DTYPES["bfloat16"]
    assert recipe.out_dtype == OUT_DTYPES["float32"]
    assert (recipe.seed, recipe.name, recipe.license) == (7, "stage", "apache-2.0")
    assert recipe.ledger == "none"
    assert not recipe.dialect
    assert recipe.place_of("seed") == Place(13, 7, 1)
    assert recipe.place_of("tokenizer_source") is None


def test_a_recipe_of_mergekit_runs_unchanged() -> None:
    recipe = read_recipe_text(PLAIN).require()
    assert recipe.dialect
    assert recipe.ledger == "references"
    assert (recipe.seed, recipe.out_dtype, recipe.license) == (0, None, None)


def test_bytes_and_text_read_alike() -> None:
    assert read_recipe_text(FULL.encode()).recipe == read_recipe_text(FULL).recipe
    assert read_recipe_text(b"\xef\xbb\xbf" + FULL.encode()).recipe == read_recipe_text(FULL).recipe


@pytest.mark.parametrize(
    "line",
    ["seed: 1", "license: mit", "ledger: {keep: none}", "coefficients: {method: fixed}",
     "push: {repo: you/merged}", "on_mismatch: base",
     "base_model: {path: org/b}"],
)  # fmt: skip
def test_own_keys_leave_the_dialect(line: str) -> None:
    parsed = with_line(line)
    assert parsed.ok
    assert parsed.require().dialect is False


def test_a_name_of_a_model_leaves_the_dialect_and_one_of_the_recipe_does_not() -> None:
    text = "merge_method: linear\nmodels: [{model: org/a, name: x}]\n"
    assert read_recipe_text(text).require().dialect is False
    assert with_line("name: x").require().dialect is True


DOCUMENTED = "evaluate calibration input_model_parameters"


def test_every_documented_key_is_honoured_or_refused_by_name() -> None:
    assert set(DOCUMENTED.split()) <= TOP_REFUSED.keys()
    assert not TOP_REFUSED.keys() & TOP_KEYS


@pytest.mark.parametrize("key", sorted(TOP_REFUSED))
def test_keys_that_are_refused_by_name(key: str) -> None:
    message = only_message(with_line(f"{key}: {{a: b}}"))
    assert f"'{key}'" in message
    assert "unknown" not in message


@pytest.mark.parametrize("key", sorted(TOP_KEYS.keys() - {"merge_method", "models"}))
def test_null_is_as_good_as_absent(key: str) -> None:
    parsed = with_line(f"{key}: null")
    assert parsed.findings == ()
    absent = with_line("")
    assert parsed.recipe is not None
    assert absent.recipe is not None
    for field in ("base_model", "parameters", "dtype", "out_dtype", "seed", "name", "license"):
        assert getattr(parsed.recipe, field) == getattr(absent.recipe, field)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dtype: bfloat61", "dtype: unknown dtype 'bfloat61'; did you mean 'bfloat16'?"),
        ("dtype: bf16", "did you mean 'bfloat16'?"),
        ("out_dtype: half", "did you mean 'float16'?"),
        ("out_dtype: int64", "out_dtype: results cannot be stored as 'int64'"),
        ("dtype: float8_e4m3fn", "results cannot be stored as"),
        ("dtype: [a]", "dtype: expected a single value, found a list"),
        ("seed: -1", "seed: expected a number from 0"),
        ("seed: 18446744073709551616", "seed: expected a number from 0"),
        ("seed: 1.5", "seed: expected a whole number"),
        ("seed: {a: b}", "seed: expected a single value"),
        ("name: a/b", "name: the name 'a/b' holds a slash"),
        ("name: [a]", "name: expected a text, found a list"),
        ('license: "a\\nb"', "license: expected an identifier"),
        ("license: ''", "license: expected an identifier of the Hub, found ''"),
        ("license: Apache 2.0", "found 'Apache 2.0'; did you mean 'apache-2.0'?"),
        ("license: [mit, apache-2.0]", "license: expected a single value"),
        ("license: {id: mit}", "license: expected a single value"),
        (f"license: {'a' * 51}", "license: expected an identifier"),
        ("tokenizer: {sorce: base}", "unknown key 'sorce' of tokenizer; did you mean 'source'?"),
        ("tokenizer: base", "tokenizer: expected a mapping"),
        ("ledger: {keep: non}", "found 'non'; did you mean 'none'?"),
        ("ledger: none", "ledger: expected a mapping"),
        ("coefficients: {method: cma_es}", "coefficients.method: 'cma_es' is not available"),
        ("coefficients: {method: fixd}", "did you mean 'fixed'?"),
        ("coefficients: {method: fixed, steps: 3}", "unknown key 'steps' of coefficients"),
        ("base_model: [a]", "base_model: expected a model, found a list"),
        ("parameters: [a]", "parameters: expected a mapping, found a list"),
        ("random_seed: 1", "'random_seed' of the recipe is not a key"),
    ],
)
def test_values_that_are_refused(line: str, words: str) -> None:
    assert words in only_message(with_line(line))


def test_seed_takes_the_whole_range() -> None:
    assert with_line(f"seed: {2**64 - 1}").require().seed == 2**64 - 1


def test_tokenizer_said_twice() -> None:
    parsed = with_line("tokenizer: {source: base}\ntokenizer_source: base")
    assert "say the same thing" in only_message(parsed)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("[]", "expected at least one model"),
        ("null", "models: expected a list, found nothing"),
        ("{model: org/a}", "models: expected a list, found a mapping"),
        ("[org/a]", "expected a mapping with the key 'model', found a single value"),
        ("[{name: x}]", "this item names no model"),
        ("[{model: ~}]", "model: expected a model, found nothing"),
        ("[{model: org/a, weight: 1}]", "the parameter 'weight' of a model stands outside"),
        ("[{model: org/a, layer_range: [0, 1]}]", "'layer_range' of a model is not available"),
        ("[{model: org/a, lora: b}]", "'lora' of a model is not a key"),
        ("[{modle: org/a}]", "unknown key 'modle' of a model; did you mean 'model'?"),
    ],
)
def test_models_that_are_refused(models: str, words: str) -> None:
    parsed = read_recipe_text(f"merge_method: linear\nmodels: {models}\n")
    assert any(words in f.message for f in parsed.findings), parsed.findings
    assert not parsed.ok


def test_missing_keys() -> None:
    parsed = read_recipe_text("dtype: float16\n")
    assert {f.message for f in parsed.findings} == {
        "the recipe has no 'merge_method'",
        "the recipe has no 'models'",
    }
    assert parsed.recipe is None


@pytest.mark.parametrize("text", ["- a\n", "just words\n", "42\n", "~\n"])
def test_what_is_no_mapping(text: str) -> None:
    assert "expected a recipe, a mapping of keys" in only_message(read_recipe_text(text))


def test_everything_wrong_is_said_at_once_and_the_rest_is_kept() -> None:
    text = FULL.replace("seed: 7", "seed: x").replace("dtype: bfloat16", "dtpye: bfloat16")
    parsed = read_recipe_text(text.replace("{scope", "[scope").replace("name: code", "name: a/b"))
    assert len(parsed.findings) == 3
    assert parsed.recipe is not None
    assert not parsed.ok
    assert [m.ref.path for m in parsed.recipe.models][1] == "org/base-1b-code"
    with pytest.raises(RecipeError) as caught:
        parsed.require()
    assert str(caught.value) == parsed.render()
    assert caught.value.exit_code == 2


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "r.yml"
    file.write_text(FULL, encoding="utf-8")
    parsed = load_recipe_file(file)
    assert parsed.ok
    assert parsed.filename == "r.yml"
    file.write_text("dtype: x\n", encoding="utf-8")
    assert load_recipe_file(str(file)).render().startswith("r.yml:1:1: error: ")


@pytest.mark.parametrize("name", ["absent.yml", ".", "a\x00b"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe_file(tmp_path / name)
    assert str(tmp_path.parent) not in str(caught.value)


def test_the_digest_is_that_of_the_text() -> None:
    recipe = read_recipe_text("merge_method: linear\nmodels: [{model: a}]").require()
    # printf 'merge_method: linear\nmodels: [{model: a}]' | sha256sum
    assert recipe.digest == "67671262acd43a6c26d3d7a478a3f34df3361d2d0efa0bcf09d97a042116d302"
