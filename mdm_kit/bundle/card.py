"""The model card: front matter the Hub reads and a body people read."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from mdm_kit.words import shown

UNCUT = 1 << 30


@dataclass(frozen=True, slots=True)
class CardSource:
    """A parent in the card: its name, what it is called (no path), its role, its parameters."""

    name: str
    reference: str
    role: str
    repo: str | None
    parameters: str


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says."""

    title: str
    method: str
    method_title: str
    sources: Sequence[CardSource]
    dtype: str
    recipe_name: str
    recipe_text: str
    license: str | None
    dialect: bool
    tool: str


def write_card(facts: CardFacts) -> bytes:
    """Return the bytes of README.md. Everything a stranger could have written is escaped."""
    return f"---\n{_front_matter(facts)}---\n\n{_body(facts)}".encode()


def _front_matter(facts: CardFacts) -> str:
    repos = list(dict.fromkeys(s.repo for s in facts.sources if s.repo))
    tags = ["merge", "mdm-kit", *(["mergekit"] if facts.dialect else []), facts.method]
    fields: dict[str, object] = {"library_name": "transformers", "tags": tags}
    if repos:
        fields["base_model"] = repos
        fields["base_model_relation"] = "merge"
    if facts.license:
        fields["license"] = facts.license
    text: str = yaml.safe_dump(fields, sort_keys=False)
    return text


def _body(facts: CardFacts) -> str:
    rows = "\n".join(
        f"| {_cell(s.name)} | {_cell(s.role)} | {_cell(s.reference)} | {_cell(s.parameters)} |"
        for s in facts.sources
    )
    return f"""# {_cell(facts.title)}

A merge of language models made with mdm_kit. Method: **{_cell(facts.method)}**
({_cell(facts.method_title)}). Weights are stored as {_cell(facts.dtype)}.

## Models

| name | role | model | parameters |
| --- | --- | --- | --- |
{rows}

## Recipe

`{facts.recipe_name}`:

{_fenced(facts.recipe_text, "yaml")}

## Check it

`mdm_manifest.json` holds the digest of every tensor and file. Made by {_cell(facts.tool)}.

```
mdm-kit verify .
```
"""


def _cell(text: str) -> str:
    safe = html.escape(shown(text), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", safe)


def _fenced(text: str, language: str) -> str:
    lines = "\n".join(shown(line, limit=UNCUT) for line in text.rstrip().splitlines())
    longest = max((len(run) for run in re.findall(r"`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{lines}\n{fence}"
