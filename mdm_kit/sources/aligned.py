"""A model whose vocabulary tensors are offered with their rows in another order and number.

Everything else passes through. Elements are put together from the model's own rows and from those
of others, as a `RowMap` says; where a range lies together in the model itself it is lent as it
lies. Memory does not grow with the vocabulary.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mdm_kit.sources.loan import Buffers, Loan
from mdm_kit.sources.row_map import PADDING
from mdm_kit.sources.rows import numbers
from mdm_kit.sources.wrapped import WrappedSource
from mdm_kit.words import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mdm_kit.sources.row_filling import AlignedTensor
    from mdm_kit.sources.row_map import Run
    from mdm_kit.sources.seam import Checkpoint, Source
    from mdm_kit.words import TensorInfo

_CHUNK = 1 << 20
"""Elements that a mean over all rows takes at once."""


class AlignedSource(WrappedSource):
    """A source with some tensors aligned. See `seam.Source`."""

    def __init__(
        self, source: Source, tensors: Mapping[str, AlignedTensor], *, owned: bool
    ) -> None:
        """Offer `tensors` instead of those of `source`, which is closed with it if it is `owned`.

        The sources that rows of other models come from must be open as long as this one.
        """
        super().__init__(source, owned=owned)
        self._tensors = dict(tensors)
        self._buffers = Buffers()
        self._lock = threading.Lock()
        self._means: dict[str, NDArray[np.float64]] = {}

    def headers(self) -> Checkpoint:
        """Return the headers with the aligned tensors as they are offered; files as stored."""
        stored = self.stored.headers()
        aligned = {n: t.info for n, t in self._tensors.items()}
        return replace(stored, tensors={**stored.tensors, **aligned})

    def read(
        self, info: TensorInfo, into: memoryview | bytearray | None = None, start: int = 0
    ) -> memoryview:
        """Fill `into` with the tensor's bytes from byte `start` on and return a view of it."""
        if info.name not in self._tensors:
            return self.stored.read(info, into, start)
        view = memoryview(bytearray(max(0, info.nbytes - start)) if into is None else into)
        view = view.cast("B")
        self._fill(self._tensors[info.name], start, view)
        return view

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Lend bytes of a tensor: where they lie if they lie together, else put together."""
        tensor = self._tensors.get(info.name)
        if tensor is None:
            return self.stored.lend(info, start, nbytes)
        run = self._only_run(tensor, start, nbytes)
        if run is not None:
            rows = tensor.origin(run.origin)
            if not rows.copied and rows.info.dtype == tensor.info.dtype:
                return rows.lend(run.first, run.stop - run.start)
        loan, view = self._buffers.lend(nbytes)
        try:
            self._fill(tensor, start, view)
        except BaseException:
            loan.release()
            raise
        return loan

    @property
    def is_far(self) -> bool:
        """Whether some bytes, own or other models', are fetched as they are read."""
        return self.stored.is_far or any(
            rows is not None and rows.source.is_far
            for tensor in self._tensors.values()
            for rows in tensor.origins
        )

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce a `lend` with these arguments: what it reads of every model."""
        tensor = self._tensors.get(info.name)
        if tensor is None:
            self.stored.expect(info, start, nbytes)
            return
        for run in self._runs(tensor, start, nbytes):
            for rows, first, count in tensor.reads(run):
                rows.expect(first, count)

    def _runs(self, tensor: AlignedTensor, start: int, nbytes: int) -> list[Run]:
        size = DTYPES[tensor.info.dtype].bits // 8
        return list(tensor.rows.runs(tensor.width, start // size, (start + nbytes) // size))

    def _only_run(self, tensor: AlignedTensor, start: int, nbytes: int) -> Run | None:
        runs = self._runs(tensor, start, nbytes)
        return runs[0] if len(runs) == 1 and runs[0].origin >= 0 else None

    def _fill(
        self, tensor: AlignedTensor, start: int, view: memoryview, *, pads: bool = True
    ) -> None:
        """Put the bytes from `start` on together; `start` and the length are whole elements.

        Without `pads` what is padding is left as it is.
        """
        size = DTYPES[tensor.info.dtype].bits // 8
        begin = start // size
        for run in self._runs(tensor, start, len(view)):
            part = view[(run.start - begin) * size : (run.stop - begin) * size]
            if run.origin == PADDING:
                if not pads:
                    continue
                columns = np.arange(run.start, run.stop) % tensor.width
                tensor.put(self._mean_of_rows(tensor)[columns], part)
            else:
                tensor.fill(run, part)

    def _mean_of_rows(self, tensor: AlignedTensor) -> NDArray[np.float64]:
        """Return the mean of all rows that have a token, float64 of shape (width,); read once."""
        with self._lock:
            found = self._means.get(tensor.info.name)
            if found is None:
                found = self._means[tensor.info.name] = self._measured(tensor)
            return found

    def _measured(self, tensor: AlignedTensor) -> NDArray[np.float64]:
        real, width = tensor.rows.real, tensor.width
        size = DTYPES[tensor.info.dtype].bits // 8
        total = np.zeros(width)
        step = max(1, _CHUNK // width)
        raw = memoryview(bytearray(step * width * size))
        for low in range(0, len(real), step):
            chosen = np.flatnonzero(real[low : low + step])
            if not len(chosen):
                continue
            n = int(chosen[-1]) + 1
            part = raw[: n * width * size]
            self._fill(tensor, low * width * size, part, pads=False)
            rows = numbers(part, tensor.info.dtype).reshape(n, width)
            total += rows[chosen].sum(axis=0, dtype=np.float64)
        return total / max(1, int(real.sum()))

    def close(self) -> None:
        """Remove copies, and close the model if it is owned."""
        for tensor in self._tensors.values():
            for rows in tensor.origins:
                if rows is not None:
                    rows.close()
        super().close()


def as_stored(source: Source) -> Source:
    """Return a source as its files have it, whatever is offered of it."""
    return source.stored if isinstance(source, AlignedSource) else source
