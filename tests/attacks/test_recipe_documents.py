"""Attack: several documents in one file, so that two readers see two recipes."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import read_recipe_text

ONE = "merge_method: linear\nmodels: [{model: org/a}]\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"{ONE}---\n{ONE}", 1, "has no 'name'"),
        (f"---\n{ONE}---\n{ONE}", 2, "has no 'name'"),
        (f"{ONE}---\n", 4, "found nothing"),
        (f"---\n---\n{ONE}", 2, "found nothing"),
        (f"{ONE}...\n---\n{ONE}", 1, "has no 'name'"),
    ],
)
def test_a_document_nobody_can_use_is_refused_where_it_starts(
    text: str, line: int, words: str
) -> None:
    parsed = read_recipe_text(text)
    assert not parsed.ok
    (finding,) = parsed.findings
    assert words in finding.message
    assert finding.place is not None
    assert finding.place.line == line


@pytest.mark.parametrize("text", [f"---\n{ONE}", f"{ONE}...\n", f"# c\n---\n{ONE}...\n# d\n"])
def test_one_document_may_say_so(text: str) -> None:
    assert read_recipe_text(text).ok


def test_text_behind_the_end_is_no_afterthought() -> None:
    assert not read_recipe_text(f"{ONE}...\ndtype: float16\n").ok


def test_an_empty_document_is_no_recipe() -> None:
    assert "found nothing" in read_recipe_text("---\n...\n").findings[0].message
    assert "found an empty file" in read_recipe_text("").findings[0].message
