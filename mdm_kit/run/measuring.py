"""The first of two passes: inner products of every tensor that is not measured while written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.nodes import Write
from mdm_kit.run.executor import stream
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import MeasureTile, measure_tiles_of
from mdm_kit.run.weights import blurred
from mdm_kit.run.work import Work


def measure(writes: Sequence[Write], work: Work, budget: Budget) -> dict[str, Gram]:
    """Return the Gram matrix of each of `writes` by name, reading each once.

    Where a group turns out to be nearly dependent, its tensors are read again and summed with
    compensation.
    """
    grams = _measured(writes, work, budget, exact=False)
    return grams | _measured(blurred(writes, grams), work, budget, exact=True)


def _measured(
    writes: Sequence[Write], work: Work, budget: Budget, *, exact: bool
) -> dict[str, Gram]:
    def jobs() -> Iterator[MeasureTile]:
        for write in writes:
            yield from measure_tiles_of(Tally(write, exact=exact), budget.tile_of(write))

    grams = {}
    for tile, _ in stream(jobs(), work, budget.threads):
        if tile.is_last:
            grams[tile.into.write.name] = tile.into.gram()
    return {w.name: grams.get(w.name) or no_products(w) for w in writes}


def no_products(write: Write) -> Gram:
    """Return the Gram matrix of an empty tensor."""
    return Tally(write, exact=False).gram()
