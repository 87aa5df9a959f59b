"""The executor: streams a plan's tiles through a few workers, in order, in constant memory.

Workers read and compute tiles side by side; the caller hashes and writes them in the order of the
output file. A fixed number of output blocks goes round, so memory depends on neither the model nor
the shard, and the bytes depend on neither the number of workers nor who was faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mdm_kit.planner.costs import SPARE_TILES, tile_elements
from mdm_kit.planner.layout import Shard
from mdm_kit.planner.nodes import Write
from mdm_kit.run.tile import Tile
from mdm_kit.words import DTYPES


def tiles_of(write: Write) -> Iterator[Tile]:
    """Yield the tiles of an output tensor, first element first; none for an empty tensor."""
    n = write.nbytes * 8 // DTYPES[write.dtype].bits
    step = tile_elements(write)
    for start in range(0, n, step):
        yield Tile(write, start, min(step, n - start))


def tiles_of_shard(shard: Shard) -> Iterator[Tile]:
    """Yield the tiles of a shard in the order of their bytes."""
    for placed in shard.tensors:
        yield from tiles_of(placed.write)


def stream(
    tiles: Iterable[Tile], kernel: Callable[[Tile, torch.Tensor], None], threads: int
) -> Generator[tuple[Tile, memoryview]]:
    """Compute `tiles` with `threads` workers and yield each with its bytes, in the given order.

    The bytes are valid until the next one is asked for. An error of the kernel is raised in the
    place of its tile; tiles behind it are dropped.
    """
    blocks = [torch.empty(0, dtype=torch.uint8) for _ in range(threads + SPARE_TILES)]
    pending: deque[tuple[Tile, torch.Tensor, Future[None]]] = deque()
    threads_before = torch.get_num_threads()
    # One thread per worker inside torch: several would fight over the cores, and some of torch's
    # reductions change their bits with the number of threads.
    pool = ThreadPoolExecutor(threads, "tile", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for tile in tiles:
            if not blocks:
                yield from _finish(pending, blocks)
            block = blocks.pop()
            if block.numel() < tile.nbytes:
                block = torch.empty(tile.nbytes, dtype=torch.uint8)
            future = pool.submit(kernel, tile, block[: tile.nbytes])
            pending.append((tile, block, future))
        while pending:
            yield from _finish(pending, blocks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads_before)


def _finish(
    pending: deque[tuple[Tile, torch.Tensor, Future[None]]], blocks: list[torch.Tensor]
) -> Iterator[tuple[Tile, memoryview]]:
    tile, block, future = pending.popleft()
    future.result()
    yield tile, block.numpy().data[: tile.nbytes]
    blocks.append(block)
