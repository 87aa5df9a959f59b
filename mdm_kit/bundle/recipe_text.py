"""The recipe as it is published: the user's own text, without a path of the user's machine."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mdm_kit.recipe import Recipe, rewrite_references

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)


def published_text(recipe: Recipe, public: Mapping[str, str]) -> str:
    """Return the recipe's text with each model reference replaced by its public one.

    `public` gives `owner/name@<commit>` or `local:<base name>@sha256:...` for every reference of
    the recipe. Comments and layout stay, but for folders of the recipe a comment names again.
    """
    text = rewrite_references(recipe, lambda ref: public[str(ref)])
    folders = [ref for ref in public if public[ref].startswith("local:") and "/" in ref]
    if not folders:
        return text
    # The longest first, so that a folder is not taken for its parent.
    names = "|".join(re.escape(f) for f in sorted(folders, key=len, reverse=True))
    whole = re.compile(rf"(?<![\w./~-])(?:{names})(?![\w.-])")
    return _COMMENT.sub(lambda comment: whole.sub(lambda found: public[found[0]], comment[0]), text)
