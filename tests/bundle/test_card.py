"""The model card: true front matter, and nothing a stranger wrote gets loose in it."""

from __future__ import annotations

import yaml

from mdm_kit.bundle.card import CardFacts, CardSource, write_card

HOSTILE = "a|b](http://x) <script>alert(1)</script>\n---\nlicense: mit\n```\n\x1b[31m\u202e`#"


def card(**changes: object) -> str:
    facts: dict[str, object] = {
        "title": "Merged model",
        "method": "linear",
        "method_title": "Linear.",
        "sources": [CardSource("m1", "org/m1@abc", "model", "org/m1", "weight: 1")],
        "dtype": "bfloat16",
        "recipe_name": "mergekit_config.yml",
        "recipe_text": "merge_method: linear\n",
        "license": None,
        "dialect": True,
        "tool": "mdm_kit 0",
    }
    return write_card(CardFacts(**{**facts, **changes})).decode()  # type: ignore[arg-type]


def front_matter(text: str) -> dict[str, object]:
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_names_hub_parents_and_nothing_else() -> None:
    sources = [
        CardSource("base", "local:base@sha256:00", "base", None, ""),
        CardSource("m1", "org/m1@abc", "model", "org/m1", ""),
    ]
    assert front_matter(card(sources=sources, license="apache-2.0")) == {
        "library_name": "transformers",
        "tags": ["merge", "mdm-kit", "mergekit", "linear"],
        "base_model": ["org/m1"],
        "base_model_relation": "merge",
        "license": "apache-2.0",
    }
    local_only = front_matter(card(sources=sources[:1], dialect=False))
    assert "base_model" not in local_only
    assert local_only["tags"] == ["merge", "mdm-kit", "linear"]


def test_hostile_text_is_only_text() -> None:
    hostile = CardSource(HOSTILE, HOSTILE, HOSTILE, None, HOSTILE)
    text = card(title=HOSTILE, sources=[hostile], recipe_text=HOSTILE, license=HOSTILE)
    assert front_matter(text)["license"] == HOSTILE
    body = text.split("---\n", 2)[2]
    outside, fenced = body.split("````yaml\n")[0], body.split("````yaml\n")[1].split("\n````")[0]
    assert "<script>" not in outside
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "](" not in outside
    assert sum(line.startswith("|") for line in outside.splitlines()) == 3
    assert all(line.count(" | ") == 3 for line in outside.splitlines() if line.startswith("| "))
    assert "```" in fenced
