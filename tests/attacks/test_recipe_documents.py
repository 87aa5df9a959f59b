"""Attack: several documents in one file, so that two readers see two recipes."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import read_recipe_text

ONE = "merge_method: linear\nmodels: [{model: org/a}]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{ONE}---\n{ONE}", 3),
        (f"---\n{ONE}---\n{ONE}", 4),
        (f"{ONE}---\n", 3),
        (f"---\n---\n{ONE}", 2),
        (f"{ONE}...\n---\n{ONE}", 4),
    ],
)
def test_a_second_document_is_refused_where_it_starts(text: str, line: int) -> None:
    parsed = read_recipe_text(text)
    assert parsed.recipe is None
    (finding,) = parsed.findings
    assert finding.message == "a second document starts here; a recipe is exactly one"
    assert finding.place is not None
    assert (finding.place.line, finding.place.column) == (line, 1)


@pytest.mark.parametrize("text", [f"---\n{ONE}", f"{ONE}...\n", f"# c\n---\n{ONE}...\n# d\n"])
def test_one_document_may_say_so(text: str) -> None:
    assert read_recipe_text(text).ok


def test_text_behind_the_end_is_no_afterthought() -> None:
    assert not read_recipe_text(f"{ONE}...\ndtype: float16\n").ok


def test_an_empty_document_is_no_recipe() -> None:
    assert "found nothing" in read_recipe_text("---\n...\n").findings[0].message
    assert "found an empty file" in read_recipe_text("").findings[0].message
