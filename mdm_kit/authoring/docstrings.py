"""What a method's docstring says besides its text: the papers it names, where not to use it."""

from __future__ import annotations

import re

_ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})")
_PAGE = re.compile(r"(?:https?://)?\b((?:[a-z0-9-]+\.)+[a-z]+/[^\s,;)]+[^\s,;).])")
_NOT_FOR = re.compile(r"^Where not to use:(.+?)(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


def papers(doc: str) -> list[str]:
    """Return the addresses of the papers and pages the docstring names, in order, each once."""
    arxiv = [(m.start(), f"https://arxiv.org/abs/{m[1]}") for m in _ARXIV.finditer(doc)]
    pages = [(m.start(), f"https://{m[1]}") for m in _PAGE.finditer(doc)]
    return list(dict.fromkeys(address for _, address in sorted(arxiv + pages)))


def not_for(doc: str) -> str:
    """Return what stands behind `Where not to use:` as one line; empty if there is nothing."""
    found = _NOT_FOR.search(doc)
    return " ".join(found[1].split()) if found else ""
