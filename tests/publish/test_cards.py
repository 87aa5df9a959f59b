"""A card that is superseded says so in its front matter, and is else as it was."""

from __future__ import annotations

import pytest

from mdm_kit.publish.superseding import with_new_version

LINE = "new_version: a/b\n"


@pytest.mark.parametrize(
    ("card", "wanted"),
    [
        ("---\nlicense: mit\n---\n\n# T\n", f"---\nlicense: mit\n{LINE}---\n\n# T\n"),
        ("---\nnew_version: c/d\nx: 1\n---\n", f"---\nx: 1\n{LINE}---\n"),
        ("---\n---\ntext", f"---\n{LINE}---\ntext"),
        ("# T\n\n---\nrule\n---\n", f"---\n{LINE}---\n\n# T\n\n---\nrule\n---\n"),
        ("", f"---\n{LINE}---\n\n"),
        ("---\nnever ends", f"---\n{LINE}---\n\n---\nnever ends"),
    ],
)
def test_new_version(card: str, wanted: str) -> None:
    assert with_new_version(card, "a/b") == wanted
    assert with_new_version(wanted, "a/b") == wanted
