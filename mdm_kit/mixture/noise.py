"""Noise for experts' weights, made where it is read: standard normal numbers of any shape."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mdm_kit.mixture.chance import BLOCK, generator
from mdm_kit.sources.made import MadeSource


class NoiseSource(MadeSource):
    """Tensors of float32 numbers from the standard normal distribution.

    A tensor's numbers depend on the seed and its name alone. For `noise_scale` of mergekit-moe.
    """

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
        """Take the shapes of all tensors and the recipe's seed."""
        super().__init__(name, shapes, ["noise", seed])
        self._seed = seed

    def _make(self, tensor: str, start: int, view: memoryview) -> None:
        out = np.frombuffer(view, np.float32)
        done = 0
        while done < len(out):
            block, skip = divmod(start + done, BLOCK)
            numbers = generator(self._seed, tensor, block).standard_normal(BLOCK, np.float32)
            part = numbers[skip : skip + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)
