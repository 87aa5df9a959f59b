"""What a card says a model was made from, by its front matter or the Hub's reading of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mdm_kit.sources.hub_standing import standing_of
from mdm_kit.sources.stated_bases import stated_bases


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("---\nbase_model: a/b\n---\n", ("a/b",)),
        ("---\r\nbase_model: a/b\r\n---\r\ntext", ("a/b",)),
        ("\ufeff---\ntags:\n- x/y\nbase_model:\n  - a/b\n  - \"c/d\"\nlicense: mit\n---",
         ("a/b", "c/d")),
        ("---\nbase_model: [a/b, 'c/d']\n---\n", ("a/b", "c/d")),
        ("---\nbase_model_relation: merge\n---\n", ()),
        ("---\nlicense: mit\n---\nbase_model: a/b\n", ()),
        ("---\nbase_model: https://host/a/b\n---\n", ()),
        ("---\nbase_model: \x1b[2Ja/b\n---\n", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_front_matter(card: str, named: tuple[str, ...]) -> None:
    assert stated_bases(card) == named


@pytest.mark.parametrize(
    ("stated", "named"),
    [("a/b", ("a/b",)), (["a/b", 3, "../x", "c/d"], ("a/b", "c/d")), (None, ()), ({"a": 1}, ())],
)
def test_the_hub_s_own_reading(stated: object, named: tuple[str, ...]) -> None:
    info = SimpleNamespace(
        id="o/m",
        card_data=SimpleNamespace(base_model=stated),
        gated=False,
        private=False,
        pipeline_tag=None,
    )
    assert standing_of(info, "o/m").base_models == named
