"""Where a merge's random numbers come from: names and the seed, never order, device or tiling."""

from __future__ import annotations

import hashlib


def key_of(seed: int, tensor: str, model: str) -> int:
    """Return the key of the draws of one model in one tensor, an int64 as kernels take it.

    Names stand in the recipe and the checkpoint, so a model keeps its draws when others come and
    go.
    """
    digest = hashlib.blake2b(digest_size=8, person=b"mdm_kit draw")
    for part in (str(seed), tensor, model):
        text = part.encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest(), "little", signed=True)
