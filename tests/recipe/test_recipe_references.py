"""Model references: both forms, what they mean, where they stand, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.recipe import LocatedRef, Scalar, WrongValue, parse_reference, read_recipe_text
from mdm_kit.words import AdapterRef, ModelRef

SHA = "sha256:" + "0a" * 32
DIGEST = f"local:base@{SHA}"
ODD_DIGEST = f"local:a b+c@d@{SHA}"


def base_of(yaml_value: str) -> tuple[LocatedRef | None, list[str]]:
    text = f"merge_method: linear\nbase_model: {yaml_value}\nmodels: [{{model: org/m}}]\n"
    parsed = read_recipe_text(text)
    assert parsed.recipe is not None
    base = parsed.recipe.base_model
    if base is not None:
        assert text[slice(*base.span)].strip() == yaml_value.strip()
    return base, [f.message for f in parsed.findings]


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("org/m", ModelRef("org/m")),
        ("gpt2", ModelRef("gpt2")),
        ("org/m@v1.0", ModelRef("org/m", "v1.0")),
        ("org/m@refs/pr/1", ModelRef("org/m", "refs/pr/1")),
        ("org/m+org/l", ModelRef("org/m", None, AdapterRef("org/l"))),
        ("org/m@a+org/l@b", ModelRef("org/m", "a", AdapterRef("org/l", "b"))),
        ("./m+./l", ModelRef("./m", None, AdapterRef("./l"))),
        ("/abs/m odel/", ModelRef("/abs/m odel/")),
        ("../up/m", ModelRef("../up/m")),
        ("~/m", ModelRef("~/m")),
        ("123", ModelRef("123")),
        ("café/модель", ModelRef("café/модель")),
        (DIGEST, ModelRef("local:base", SHA)),
        (DIGEST + "+org/l@v1", ModelRef("local:base", SHA, AdapterRef("org/l", "v1"))),
        ("org/m@v1+" + DIGEST, ModelRef("org/m", "v1", AdapterRef("local:base", SHA))),
        (DIGEST + "+" + DIGEST, ModelRef("local:base", SHA, AdapterRef("local:base", SHA))),
        (ODD_DIGEST, ModelRef("local:a b+c@d", SHA)),
        (
            ODD_DIGEST + "+" + ODD_DIGEST,
            ModelRef("local:a b+c@d", SHA, AdapterRef("local:a b+c@d", SHA)),
        ),
    ],
)
def test_one_line_form(text: str, ref: ModelRef) -> None:
    assert parse_reference(Scalar(text, plain=False)) == ref
    assert str(ref) == text


@pytest.mark.parametrize(
    ("yaml_value", "ref", "mergekit_form"),
    [
        ("{path: org/m}", ModelRef("org/m"), False),
        ("{path: org/m, revision: 1e10}", ModelRef("org/m", "1e10"), False),
        ("{path: org/m, revision: ~}", ModelRef("org/m"), False),
        ("{model: org/m@v1}", ModelRef("org/m", "v1"), True),
        ("{model: {path: 'a@b+c'}}", ModelRef("a@b+c"), True),
        ("{model: {path: org/m, revision: r}, lora: {path: org/l, revision: s}}",
         ModelRef("org/m", "r", AdapterRef("org/l", "s")), True),
        ("{model: org/m, lora: org/l@s}", ModelRef("org/m", None, AdapterRef("org/l", "s")), True),
        ("{model: org/m, lora: null}", ModelRef("org/m"), True),
    ],
)  # fmt: skip
def test_mapping_form(yaml_value: str, ref: ModelRef, mergekit_form: bool) -> None:
    base, messages = base_of(yaml_value)
    assert messages == []
    assert base is not None
    assert (base.ref, base.mergekit_form) == (ref, mergekit_form)


def test_a_block_mapping_spans_its_lines() -> None:
    base, messages = base_of("\n  path: org/m\n  revision: r")
    assert messages == []
    assert base is not None
    assert base.ref == ModelRef("org/m", "r")


@pytest.mark.parametrize(
    ("yaml_value", "words"),
    [
        ("{path: org/m, revsion: r}", "unknown key 'revsion' in base_model; did you mean 'rev"),
        ("{model: org/m, override_architecture: X}", "'override_architecture' is not available"),
        ("{model: {path: org/m, revison: r}}", "unknown key 'revison'; did you mean 'revision'"),
        ("{path: org/m, lora: org/l}", "'lora' stands beside 'model'"),
        ("{revision: r}", "expected the keys"),
        ("{lora: org/l}", "expected the keys"),
        ("{path: ~}", "the model has no path"),
        ("{path: [a]}", "the model has no path"),
        ("{model: [a]}", "expected the model, found a list"),
        ("{model: org/m, lora: {path: ''}}", "the adapter has no path"),
        ("{path: org/m, revision: [a]}", "expected a revision, found a list"),
        ("[org/m]", "expected a model, found a list"),
    ],
)
def test_mappings_that_are_refused(yaml_value: str, words: str) -> None:
    base, messages = base_of(yaml_value)
    assert base is None
    assert len([m for m in messages if words in m]) == 1, messages


def test_an_absent_base_may_be_written_as_null() -> None:
    assert base_of("null") == (None, [])
    assert base_of("~") == (None, [])


@given(st.text())
@settings(deadline=None)
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        ref = parse_reference(Scalar(text, plain=False))
    except WrongValue:
        return
    assert str(ref) == text


hub_word = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(
    lambda s: ".." not in s
)
hub_id = st.tuples(hub_word, hub_word).map("/".join)
revision = st.none() | hub_word


@given(hub_id, revision, st.none() | st.tuples(hub_id, revision))
@settings(deadline=None)
def test_hub_references_round_trip(
    path: str, rev: str | None, lora: tuple[str, str | None] | None
) -> None:
    ref = ModelRef(path, rev, AdapterRef(*lora) if lora else None)
    assert parse_reference(Scalar(str(ref))) == ref
