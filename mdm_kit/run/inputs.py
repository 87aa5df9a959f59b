"""What a tile is made of: the same elements of every source tensor, at addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mdm_kit.maths.stored import Stored
from mdm_kit.planner.nodes import Read
from mdm_kit.sources import Loan, Source
from mdm_kit.words import DTYPES


class Inputs:
    """The elements from `start` on of the tensors `reads`: `borrow` them, then `with` returns them.

    `addresses` and `dtypes` (safetensors names) have one entry for each of `reads`.
    """

    def __init__(
        self, sources: Mapping[str, Source], reads: Sequence[Read], start: int, count: int
    ) -> None:
        """Borrow nothing yet."""
        self.count = count
        self.dtypes = [r.info.dtype for r in reads]
        self.addresses: list[int] = []
        self._sources = sources
        self._reads = reads
        self._start = start
        self._loans: list[Loan] = []

    @property
    def sources(self) -> list[str]:
        """Return the name of each input's source."""
        return [r.info.source for r in self._reads]

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs together."""
        return sum(self.count * DTYPES[d].bits // 8 for d in self.dtypes)

    def stored(self, start: int, *, wide: bool) -> Stored:
        """Return the borrowed elements as kernels take them, `start` being the tensor's first."""
        return Stored(self.addresses, self.dtypes, start, self.count, wide)

    def announce(self) -> int:
        """Tell far sources what `borrow` will read, and return the bytes of all inputs."""
        for read in self._reads:
            width = DTYPES[read.info.dtype].bits
            source = self._sources[read.info.source]
            if source.is_far:
                source.expect(read.info, self._start * width // 8, self.count * width // 8)
        return self.nbytes

    def borrow(self) -> None:
        """Borrow the elements; raises what a source raises, and has borrowed nothing then."""
        try:
            for read in self._reads:
                width = DTYPES[read.info.dtype].bits
                source = self._sources[read.info.source]
                loan = source.lend(read.info, self._start * width // 8, self.count * width // 8)
                self._loans.append(loan)
                self.addresses.append(loan.address)
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        """Return the inputs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what is borrowed."""
        self._release()

    def array(self, i: int) -> NDArray[np.uint8]:
        """Return the bytes of input i."""
        return np.frombuffer(self._loans[i].view(), np.uint8)

    def _release(self) -> None:
        for loan in self._loans:
            loan.release()
        self._loans.clear()
        self.addresses.clear()
