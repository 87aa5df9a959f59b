"""What a repository id and a revision of the Hub may look like, before anybody is asked."""

from __future__ import annotations

import re
import unicodedata

_REPO_ID = re.compile(
    r"(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b",
    re.ASCII,
)
"""`owner/name`, or `name` alone as the oldest models have it: the rule of huggingface_hub."""

_REF_FORBIDDEN = re.compile(r"[ ~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")
"""What git-check-ref-format(1) forbids inside a reference."""

MAX_REVISION_CHARS = 255
"""A reference is a file name in the cache."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit id, as git prints it."""


def is_repo_id(text: str) -> bool:
    """Return whether `text` can be the id of a model on the Hub."""
    return (
        _REPO_ID.fullmatch(text) is not None
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def is_revision(text: str) -> bool:
    """Return whether `text` can name a branch, a tag, a pull request or a commit."""
    return (
        0 < len(text) <= MAX_REVISION_CHARS
        and text[0] not in "-./"
        and text[-1] not in "./"
        and _REF_FORBIDDEN.search(text) is None
        and not any(unicodedata.category(c).startswith("C") for c in text)
    )
