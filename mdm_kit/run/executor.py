"""The executor: streams tiles through a few workers, in order, in constant memory.

Workers read and compute tiles side by side; the caller takes the results in the tiles' order. A
fixed number of output blocks goes round, so memory depends on neither the model nor the shard, and
the bytes depend on neither the number of workers nor who was faster. Jobs without a result hold up
nobody's but their own kind.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mdm_kit.planner.costs import SPARE_TILES

Bytes = NDArray[np.uint8]
_NOTHING: Bytes = np.empty(0, np.uint8)


class Starved(RuntimeError):
    """A job cannot be done because another failed, whose error is the one to tell."""


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
    jobs: Iterable[J],
    work: Callable[[J, Bytes], None],
    threads: int,
    give_up: Callable[[], None] = lambda: None,
    await_others: Callable[[J], None] = lambda _: None,
) -> Generator[tuple[J, Bytes]]:
    """Do `work(job, out)` with `threads` workers and yield each job with its result, in order.

    `out` is a uint8 array (job.nbytes,). What is yielded, (job.lead + job.nbytes,), begins at a
    page of memory, holds the result at its end, and is valid until the next one is asked for. Jobs
    without a result are in order among themselves. An error is raised in the place of its job; jobs
    behind it are dropped, and `give_up` is to free workers that wait for something. `await_others`
    returns when earlier jobs without a result have done what one with a result needs, so that no
    worker waits for another.
    """
    blocks: list[Bytes] = [np.empty(0, np.uint8) for _ in range(threads + SPARE_TILES)]
    results: deque[tuple[J, Bytes, Future[None]]] = deque()
    readings: deque[tuple[J, Bytes, Future[None]]] = deque()
    most = len(blocks)
    pool = ThreadPoolExecutor(threads, "tile")
    try:
        for job in jobs:
            if not job.nbytes:
                while len(readings) == most:
                    yield _first(results or readings, readings, blocks)
                readings.append((job, _NOTHING, pool.submit(work, job, _NOTHING)))
                continue
            try:
                await_others(job)
            except Starved:
                _raise_cause(readings)
                raise
            while readings and readings[0][2].done():
                yield _first(readings, readings, blocks)
            if not blocks:
                yield _first(results, readings, blocks)
            block = blocks.pop()
            size = job.lead + job.nbytes
            if len(block) < size:
                block = _aligned(size)
            results.append((job, block, pool.submit(work, job, block[job.lead : size])))
        while readings or results:
            yield _first(results or readings, readings, blocks)
    except GeneratorExit:  # nobody wants more of it; what was announced later may still be wanted
        raise
    except BaseException:
        give_up()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(
    queue: deque[tuple[J, Bytes, Future[None]]],
    readings: deque[tuple[J, Bytes, Future[None]]],
    blocks: list[Bytes],
) -> tuple[J, Bytes]:
    """Return the first job of a queue with its result, once it is done."""
    job, block, future = queue.popleft()
    failure = future.exception()
    if failure is not None:
        if isinstance(failure, Starved):
            _raise_cause(readings)
        raise failure
    if queue is not readings:
        blocks.append(block)
    return job, block[: job.lead + job.nbytes]


def _raise_cause(readings: Iterable[tuple[J, Bytes, Future[None]]]) -> None:
    """Raise the error of the first job without a result that failed, and let none begin."""
    for _, _, reading in readings:
        if not reading.cancel():
            reading.result()


def _aligned(nbytes: int) -> Bytes:
    return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
