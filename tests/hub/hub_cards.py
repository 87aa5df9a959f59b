"""What the loopback Hub makes of a model card's front matter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from hub_store import Blob


def front_matter(text: str) -> str | None:
    """Return the YAML between a card's first two rules."""
    found = re.match(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", text, re.DOTALL)
    return found[1] if found else None


def card_data(files: dict[str, Blob]) -> dict[str, Any]:
    """Return the front matter of a repository's card; empty if it is none."""
    readme = files.get("README.md")
    text = front_matter(readme.read().decode("utf-8", "replace")) if readme else None
    try:
        data = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def as_list(value: object) -> list[str]:
    if value is None:
        return []
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def tags(card: dict[str, Any], files: dict[str, Blob]) -> list[str]:
    """Return a repository's tags: what its card says, and what follows from it."""
    found = [str(card["library_name"])] if "library_name" in card else []
    if any(path.endswith(".safetensors") for path in files):
        found.append("safetensors")
    found += as_list(card.get("tags")) + as_list(card.get("language"))
    found += [f"dataset:{name}" for name in as_list(card.get("datasets"))]
    bases = as_list(card.get("base_model"))
    relation = card.get("base_model_relation", "merge" if len(bases) > 1 else "finetune")
    found += [f"base_model:{name}" for name in bases]
    found += [f"base_model:{relation}:{name}" for name in bases]
    found += [f"license:{name}" for name in as_list(card.get("license"))]
    return list(dict.fromkeys([*found, "region:us"]))


def validate(content: str) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings the Hub has for a card."""
    text = front_matter(content)
    if text is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"], []
    if not isinstance(data, dict):
        return ["YAML metadata must be a mapping"], []
    errors = [
        f'"base_model" with value "{name}" is not valid. Use a model id from https://hf.co/models.'
        for name in as_list(data.get("base_model"))
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith(".")
    ]
    errors += [
        f'"{key}" must be an array of strings'
        for key in ("tags", "datasets")
        if not all(isinstance(v, str) for v in data.get(key) or [])
    ]
    return errors, []
