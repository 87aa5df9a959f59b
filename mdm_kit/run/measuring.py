"""What is measured before the first shard: tensors that must be read twice, and what is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.nodes import Write
from mdm_kit.run.executor import stream
from mdm_kit.run.journal import Journal
from mdm_kit.run.progress import Progress
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import MeasureTile, measure_tiles_of
from mdm_kit.run.weights import blurred, members_of
from mdm_kit.run.work import Work
from mdm_kit.words import counted


def measure_before(
    writes: Sequence[Write],
    work: Work,
    budget: Budget,
    journal: Journal | None,
    progress: Progress,
) -> None:
    """Solve what can be solved before the first shard: what is known, or must be read twice.

    What an interrupted merge has measured is taken from the journal, and what is measured now goes
    there.
    """
    grouped = {name for tensors in members_of(writes).values() for name in tensors}
    measured = [w for w in writes if w.name in grouped]
    if journal is not None:
        work.grams |= journal.grams
        work.exact |= journal.exact
    empty = [w for w in measured if not w.n_elements]  # they have no tile to be measured from
    work.grams |= {w.name: Tally(w, exact=False).gram() for w in empty}
    if work.known.models == _models(measured):
        work.grams |= work.known.plain
        work.exact |= work.known.exact
    before = [w for w in measured if w.name not in work.grams and not budget.reads_once(w)]
    if before:
        progress.say(f"measuring {counted(len(before), 'tensor')}")
    grams = _measured(before, work, budget, exact=False)
    work.grams |= grams
    ready = [w for w in measured if w.name in work.grams]
    blurry = [w for w in blurred(ready, work.grams) if w.name not in work.exact]
    exact = _measured(blurry, work, budget, exact=True)
    work.exact |= exact
    if journal is not None and (grams or exact):
        journal.measured(grams, exact)
    work.solve(ready)


def _models(measured: Sequence[Write]) -> tuple[str, ...]:
    """Return the names of the models whose changes are measured, in order."""
    apply = measured[0].apply() if measured else None
    return apply.models if apply else ()


def _measured(
    writes: Sequence[Write], work: Work, budget: Budget, *, exact: bool
) -> dict[str, Gram]:
    """Return the Gram matrix of each of `writes` by name, reading each once."""

    def jobs() -> Iterator[MeasureTile]:
        for write in writes:
            yield from measure_tiles_of(work.tally(write, exact=exact), budget.tile_of(write))

    grams = {w.name: Tally(w, exact=exact).gram() for w in writes if not w.n_elements}
    for tile, _ in stream(work.ahead(jobs()), work, budget.threads, work.foresight.give_up):
        if tile.is_last:
            grams[tile.into.write.name] = tile.into.gram()
    return grams
