"""Canonical JSON: one text for one value, so that it can be hashed and compared."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    """Return `value` as JSON with sorted keys, no spaces and UTF-8 text.

    Raises `ValueError` for NaN and infinities, which JSON has no words for.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """Return `sha256:…` over the canonical form of `value`."""
    return sha256_of(canonical(value))


def sha256_of(data: bytes) -> str:
    """Return `sha256:…` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
