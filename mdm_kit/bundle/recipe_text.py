"""The recipe as it is published: the user's own text, without a path of the user's machine."""

from __future__ import annotations

from collections.abc import Mapping

from mdm_kit.recipe import Recipe, rewrite_references


def published_text(recipe: Recipe, public: Mapping[str, str]) -> str:
    """Return the recipe's text with each model reference replaced by its public one.

    `public` gives `owner/name@<commit>` or `local:<base name>@sha256:...` for every reference of
    the recipe. Comments and layout stay, unless a comment repeats a folder's path.
    """
    text = rewrite_references(recipe, lambda ref: public[str(ref)])
    for ref in sorted(public, key=lambda r: -len(r)):
        if ref.startswith(("/", "~")):
            text = text.replace(ref, public[ref])
    return text
