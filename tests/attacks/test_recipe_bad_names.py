"""Attack: names that are taken, that are paths or flags, or that paint the terminal."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import Parsed, quoted, read_recipe_text


def parse(*names: str) -> Parsed:
    items = "".join(f"  - {{model: org/m{i}, name: {quoted(n)}}}\n" for i, n in enumerate(names))
    return read_recipe_text("merge_method: x\nmodels:\n" + items)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a\nb", "a\rb", "a\tb", "\x1b[31mred", "a\x00", "\u202etxt", "a\u200bb", "a\ufeff",
     "../x", "a/b", "a\\b", ".", "..", ".git", "-rf", "--drop", "x" * 101, "a\ue000", "\x85"],
)  # fmt: skip
def test_unfit_names(name: str) -> None:
    parsed = parse("fine", name)
    (finding,) = parsed.findings
    assert finding.message.startswith("name: ")
    assert finding.message.isprintable()
    assert finding.place is not None
    assert finding.place.line == 4


def test_repeated_names() -> None:
    parsed = parse("a", "b", "a", "a")
    assert [(f.message, f.place and f.place.line) for f in parsed.findings] == [
        ("the name 'a' is taken by the model in line 3", 5),
        ("the name 'a' is taken by the model in line 3", 6),
    ]


def test_a_name_cannot_take_the_place_of_a_default() -> None:
    parsed = read_recipe_text(
        "merge_method: x\nmodels:\n  - {model: org/a, name: b}\n  - {model: org/b}\n"
        "  - {model: org/b}\n"
    )
    assert [f.message for f in parsed.findings] == [
        "the name 'org/b' is taken by the model in line 4"
    ]
