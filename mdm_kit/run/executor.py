"""The executor: streams tiles through a few workers, in order, in constant memory.

Workers read and compute tiles side by side; the caller takes the results in the tiles' order. A
fixed number of output blocks goes round, so memory depends on neither the model nor the shard, and
the bytes depend on neither the number of workers nor who was faster.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mdm_kit.planner.costs import SPARE_TILES

Bytes = NDArray[np.uint8]


class Job(Protocol):
    """A piece of work with a result of known size."""

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""

    @property
    def lead(self) -> int:
        """Bytes of room that are wanted in front of it."""


J = TypeVar("J", bound=Job)


def stream(
    jobs: Iterable[J], work: Callable[[J, Bytes], None], threads: int
) -> Generator[tuple[J, Bytes]]:
    """Do `work(job, out)` with `threads` workers and yield each job with its result, in order.

    `out` is a uint8 array (job.nbytes,). What is yielded, (job.lead + job.nbytes,), begins at a
    page of memory, holds the result at its end, and is valid until the next one is asked for.
    An error is raised in the place of its job; jobs behind it are dropped.
    """
    blocks: list[Bytes] = [np.empty(0, np.uint8) for _ in range(threads + SPARE_TILES)]
    pending: deque[tuple[J, Bytes, Future[None]]] = deque()
    pool = ThreadPoolExecutor(threads, "tile")
    try:
        for job in jobs:
            if not blocks:
                yield from _finish(pending, blocks)
            block = blocks.pop()
            size = job.lead + job.nbytes
            if len(block) < size:
                block = _aligned(size)
            pending.append((job, block, pool.submit(work, job, block[job.lead : size])))
        while pending:
            yield from _finish(pending, blocks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finish(
    pending: deque[tuple[J, Bytes, Future[None]]], blocks: list[Bytes]
) -> Iterator[tuple[J, Bytes]]:
    job, block, future = pending.popleft()
    future.result()
    yield job, block[: job.lead + job.nbytes]
    blocks.append(block)


def _aligned(nbytes: int) -> Bytes:
    return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
