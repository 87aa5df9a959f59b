"""Nothing a stranger wrote gets loose in a card: not in its front matter, not in its body."""

from __future__ import annotations

import re
import unicodedata

import pytest
from card_cases import body, card, front_matter, manifest, source
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.bundle.card_text import cell, fenced
from mdm_kit.words import License, shown

HOSTILE = "a|b](http://x) <script>alert(1)</script>\n---\nlicense: mit\n```\n\x1b[31m\u202e`#"


def hostile_card(text: str) -> str:
    stranger = source(
        text, reference=f"{text}@{text}", repo=None, commit=None, parameters={text: text}
    )
    made = manifest(sources=[source("base", "base"), stranger, source("m2")], recipe=text)
    return card(
        made,
        title=text,
        license=License(text, text, text),
        task=text,
        stated={text: text},
        license_decided=True,
    )


def outside_fences(text: str) -> str:
    """The body without its code blocks, as a reader of CommonMark finds them."""
    kept, fence = [], ""
    for line in body(text).split("\n"):
        if fence:
            if re.fullmatch(rf" {{0,3}}{fence}`*[ \t]*", line):
                fence = ""
            continue
        if opening := re.match(r" {0,3}(`{3,})[^`]*$", line):
            fence = opening[1]
            continue
        kept.append(line)
    assert not fence
    return "\n".join(kept)


def test_hostile_text_is_only_text() -> None:
    text = hostile_card(HOSTILE)
    outside = outside_fences(text)
    assert "<script>" not in outside
    assert "](" not in outside
    assert "http://" not in outside
    assert "\x1b" not in text
    assert "\u202e" not in text
    rows = [line for line in outside.split("\n") if line.startswith("|")]
    assert len(rows) == 5
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


SPACED = "--- ``` ```` ~~~ | <b> ](x) http://a.b www.a.b a@b.c : # ' & * % @ null 1e3 yes 0x1F {{"
signs = st.sampled_from(
    [
        *SPACED.split(),
        *("\n---\n", "\n", "\r", "\u202e", "\x1b[0m", "\x85", "\u2028"),
        *(": ", " #", '"', "\\", "- ", "? ", "2026-01-01", "!!python/object:os.system"),
    ]
)
anything = st.lists(signs | st.text(max_size=8), min_size=1, max_size=6).map("".join).filter(bool)


@settings(deadline=None)
@given(anything)
def test_front_matter_reads_back_as_it_was_meant(text: str) -> None:
    assert front_matter(hostile_card(text)) == {
        "library_name": "transformers",
        "pipeline_tag": shown(text),
        "tags": ["merge", "mdm-kit", "mergekit", "linear"],
        "base_model": ["org/base", "org/m2"],
        "base_model_relation": "merge",
        "license": shown(text),
        "license_name": shown(text),
        "license_link": shown(text),
    }


@settings(deadline=None)
@given(anything)
def test_the_body_has_the_sections_and_rows_it_should(text: str) -> None:
    made = hostile_card(text)
    outside = outside_fences(made)
    headings = [line for line in outside.split("\n") if line.startswith("## ")]
    assert headings == [
        "## Models",
        "## Licence",
        "## Take a model out again",
        "## Recipe",
        "## Check it",
    ]
    rows = [line for line in outside.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {7}
    assert not re.search(r"<|(?<!\\)\[|https?://|www\.\w|\w@\w", outside)
    assert not {unicodedata.category(c) for c in made if c != "\n"} & {"Cc", "Cf", "Zl", "Zp"}


@given(anything)
def test_a_code_block_ends_where_it_should(text: str) -> None:
    block = fenced(text, "yaml")
    assert outside_fences(f"---\na: 1\n---\n{block}\nafter") == "after"


@given(anything)
def test_a_cell_is_one_line(text: str) -> None:
    assert "\n" not in cell(text)
    assert cell("plain words, 1.5") == "plain words, 1.5"


@pytest.mark.parametrize("text", ["Merged model", HOSTILE])
def test_the_hubs_own_reader_takes_it(text: str, tmp_path) -> None:
    from huggingface_hub import ModelCard, metadata_load

    made = hostile_card(text) if text == HOSTILE else card(license=License("mit"))
    wanted = front_matter(made)
    (tmp_path / "README.md").write_text(made)
    assert metadata_load(tmp_path / "README.md") == wanted
    loaded = ModelCard(made)
    found = loaded.data.to_dict()
    assert {k: found[k] for k in wanted} == wanted
    assert loaded.text.startswith("\n#")
