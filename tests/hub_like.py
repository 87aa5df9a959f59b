"""Models as they stand on the Hub, in memory: repository, commit and what its card states."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from families import Spec, tensors
from torch import Tensor

from mdm_kit.sources import MemorySource, Origin, Standing

COMMIT = "0123456789" * 4
SMALL: Spec = {
    "model.layers.0.a": ((3, 4), torch.bfloat16),
    "model.layers.1.a": ((5,), torch.float32),
}


class HubLike(MemorySource):
    """A model in memory that says it is from a repository of the Hub."""

    repo = ""
    stands = Standing()

    def origin(self) -> Origin:
        return Origin("hub", self.repo, COMMIT)

    def standing(self) -> Standing:
        return self.stands


def hub_like(
    repo: str,
    seed: int = 0,
    *,
    model: Mapping[str, Tensor] | None = None,
    files: Mapping[str, bytes] | None = None,
    **stands: object,
) -> HubLike:
    """A small model of a repository; `stands` are the fields of its `Standing`."""
    made = HubLike.from_tensors(repo, model or tensors(SMALL, seed), files)
    made.repo = repo
    made.stands = Standing(**stands)  # type: ignore[arg-type]
    return made
