"""The first of two passes: inner products of every tensor that is not measured while written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.nodes import Write
from mdm_kit.run.executor import stream
from mdm_kit.run.tile import measure_tiles_of, n_elements
from mdm_kit.run.weights import blurred
from mdm_kit.run.work import Kernels, MeasureWork, gram_of


def measure(writes: Sequence[Write], kernels: Kernels, threads: int) -> dict[str, Gram]:
    """Return the Gram matrix of each of `writes` by name, reading each once.

    Where a group turns out to be nearly dependent, its tensors are read again and summed with
    compensation.
    """
    grams = _measured(writes, kernels, threads, exact=False)
    return grams | _measured(blurred(writes, grams), kernels, threads, exact=True)


def _measured(
    writes: Sequence[Write], kernels: Kernels, threads: int, *, exact: bool
) -> dict[str, Gram]:
    grams = {w.name: no_products(w) for w in writes}
    blocks: list[np.ndarray] = []
    tiles = (t for w in writes for t in measure_tiles_of(w, exact=exact))
    for tile, out in stream(tiles, MeasureWork(kernels), threads):
        blocks.append(out.view(np.float64).reshape(-1, tile.n_pairs).copy())
        if tile.start + tile.count == n_elements(tile.write):
            grams[tile.write.name] = gram_of(tile.write, np.concatenate(blocks), exact=exact)
            blocks.clear()
    return grams


def no_products(write: Write) -> Gram:
    """Return the Gram matrix of an empty tensor."""
    apply = write.apply()
    k = len(apply.inputs) if apply else 0
    return Gram((0.0,) * (k * (k + 1) // 2))
