"""Cards from literals: a manifest with as little in it as a card needs."""

from __future__ import annotations

import dataclasses

import yaml

from mdm_kit.bundle.card import CardFacts, write_card
from mdm_kit.ledger.entries import Event, Precision, SourceEntry
from mdm_kit.ledger.manifest import Manifest

SHA = "sha256:" + 64 * "0"
COMMIT = 40 * "a"


def source(name: str, role: str = "model", **changes: object) -> SourceEntry:
    entry = SourceEntry(
        name, role, f"org/{name}@{COMMIT}", f"org/{name}", COMMIT, [], {"weight": 1.0}
    )  # type: ignore[arg-type]
    return dataclasses.replace(entry, **changes)  # type: ignore[arg-type]


def local(name: str, role: str = "model") -> SourceEntry:
    return source(name, role, repo=None, commit=None, reference=f"local:{name}@{SHA}")


def manifest(**changes: object) -> Manifest:
    made = Manifest(
        schema="mdm_kit/manifest/1",
        tool="mdm_kit 0",
        recipe="merge_method: linear\n",
        recipe_sha256=SHA,
        plan=SHA,
        seed=0,
        method="linear",
        parameters={},
        precision=Precision([], None, None),
        libraries={},
        device="cpu",
        sources=[source("base", "base"), source("m1"), source("m2")],
        tensors={},
        groups={},
        ledger=None,
        findings=[],
        undo=["rebuild"],
        shards={},
        files={},
        history=[Event("merge", "now", SHA, {})],
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def card(of: Manifest | None = None, **changes: object) -> str:
    facts: dict[str, object] = {
        "title": "Merged model",
        "manifest": of or manifest(),
        "method_title": "Linear.",
        "dtype": "bfloat16",
        "recipe_name": "mergekit_config.yml",
        "dialect": True,
        "library": "transformers",
    }
    return write_card(CardFacts(**(facts | changes))).decode()  # type: ignore[arg-type]


def front_matter(text: str) -> dict[str, object]:
    assert text.startswith("---\n")
    found = yaml.safe_load(text[4:].split("\n---\n", 1)[0])
    assert isinstance(found, dict)
    return found


def body(text: str) -> str:
    return text.split("\n---\n", 1)[1]
