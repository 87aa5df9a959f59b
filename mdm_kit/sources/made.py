"""Tensors nobody has stored: a source that makes them when they are read."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from mdm_kit.sources.checkpoint import SINGLE
from mdm_kit.sources.header_writing import written_header
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.seam import CheckpointFile, Origin
from mdm_kit.sources.stored import StoredSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mdm_kit.sources.safetensors_header import Header

WIDTH = 4
"""Bytes of a float32, the dtype of every made tensor."""


class MadeSource(StoredSource):
    """A model of float32 tensors that subclasses make; `identity` is all they are made of."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]], identity: object) -> None:
        """Take the shapes of the tensors, and what tells these from other tensors, as JSON."""
        super().__init__(name)
        self._identity = digest_of(identity)
        self._tensors = list(shapes)
        sizes = [WIDTH * math.prod(shape) for shape in shapes.values()]
        self._starts = [0, *accumulate(sizes)][:-1]
        self._header = written_header(
            ((t, "F32", shapes[t], n) for t, n in zip(shapes, sizes, strict=True)),
            {"made": self._identity},
        )
        self._nbytes = len(self._header) + sum(sizes)

    @abstractmethod
    def _make(self, tensor: str, start: int, view: memoryview) -> None:
        """Fill `view` with the float32 elements of a tensor from element `start` on."""

    def origin(self) -> Origin:
        """Return that the tensors live in memory only."""
        return Origin("memory")

    def witness(self) -> str:
        """Return a digest of what the tensors are made of."""
        return self._identity

    def content_fingerprint(self) -> str:
        """Return the same: nothing is made for it."""
        return self._identity

    def close(self) -> None:
        """Hold nothing that needs closing."""

    def _names(self) -> list[str]:
        return [SINGLE]

    def _small_file(self, name: str, limit: int) -> bytes:  # noqa: ARG002 -- it has none
        raise KeyError(name)

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        return self._described(file, self._nbytes)

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:  # noqa: ARG002
        done = 0
        if offset < len(self._header):
            done = min(len(view), len(self._header) - offset)
            view[:done] = self._header[offset : offset + done]
        while done < len(view):
            at = offset + done - len(self._header)
            i = bisect_right(self._starts, at) - 1
            end = self._starts[i + 1] if i + 1 < len(self._starts) else at + len(view)
            size = min(len(view) - done, end - at)
            self._make(self._tensors[i], (at - self._starts[i]) // WIDTH, view[done : done + size])
            done += size
