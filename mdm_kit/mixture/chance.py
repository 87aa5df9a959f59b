"""Numbers by chance that depend on what they are for and on nothing else."""

from __future__ import annotations

import hashlib
import json

import numpy as np

BLOCK = 65_536
"""Numbers drawn at a time; each block has a generator of its own, so any part can be made alone."""


def generator(*what: object) -> np.random.Generator:
    """Return a generator that is the same for the same JSON values, on every machine."""
    digest = hashlib.sha256(json.dumps(what).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
