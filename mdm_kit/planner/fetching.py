"""What comes over the network for a merge, and how much of it lies in memory at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mdm_kit.methods.rules import Joining
from mdm_kit.planner.maps import map_rule, passes_of
from mdm_kit.planner.nodes import Fold, Read, Write
from mdm_kit.planner.sums import is_summed_before, waits_for_norms
from mdm_kit.planner.survey import Surveyed
from mdm_kit.planner.weight_files import distinct_files, own_files, owner_of
from mdm_kit.sources import gap_nbytes, window_nbytes
from mdm_kit.words import DTYPES

if TYPE_CHECKING:
    from mdm_kit.planner.costs import Budget


@dataclass(frozen=True, slots=True)
class Fetched:
    """What comes over the network for the merge itself, and how much of it is in memory at most.

    `held_nbytes` are in windows, `lent_nbytes` in copies of what lies in several of them.
    """

    nbytes: int
    held_nbytes: int
    lent_nbytes: int = 0


def fetched(sources: Sequence[Surveyed], writes: Sequence[Write], budget: Budget) -> Fetched:
    """Count what is fetched as it is read; files that are downloaded whole count once."""
    whole = far_nbytes([s for s in sources if not s.source.is_far])
    far = {
        (s.name, f.name): owner_of(s, f.name)
        for s in sources
        if s.source.is_far
        for f in s.checkpoint.files
        if not f.in_cache
    }
    if not far:
        return Fetched(whole, 0)
    nbytes = _on_the_way(sources, writes)
    again = before = span = 0
    for write in writes:
        reads = _once(write, far)
        if is_summed_before(write) or isinstance(map_rule(write), Joining):
            found = _of_maps(write, reads, budget)
            nbytes += found.nbytes
            kept = found.held_nbytes
            span = max(span, found.lent_nbytes)
        else:
            own = sum(r.info.nbytes for r in reads)
            fetchings = budget.fetchings_of(write, before + own)
            nbytes += fetchings * own
            kept = own if budget.touches_of(write) > fetchings else 0
        again, before = max(again, before + kept), kept
    window = window_nbytes(budget.ahead_nbytes)
    moving = budget.ahead_nbytes + 2 * window * len({name for name, _ in far})
    # A worker that sums a map has the base's part of it and one model's; while it waits for one of
    # them, that lies in windows.
    lent = budget.threads * 2 * span if span > window else 0
    nbytes += _between(writes, far, gap_nbytes(window))
    held = min(nbytes, moving + again + lent // 2)
    return Fetched(whole + nbytes, held, lent)


def _once(write: Write, far: Mapping[tuple[str, str], int]) -> list[Read]:
    """Return what is fetched of a tensor: once for all adapters that are on the same model."""
    found: dict[tuple[int, tuple[int, int]], Read] = {}
    for read in write.reads():
        owner = far.get((read.info.source, read.info.file))
        if owner is None:
            continue
        begin, end = read.info.span
        stored = replace(read.info, nbytes=min(read.info.nbytes, end - begin))  # not as offered
        known = found.setdefault((owner, read.info.span), read)
        if stored.nbytes < known.info.nbytes:
            found[owner, read.info.span] = replace(read, info=stored)
    return list(found.values())


def _on_the_way(sources: Sequence[Surveyed], writes: Sequence[Write]) -> int:
    """Return the bytes of far adapters whose factors no node names: they are read with a tensor."""
    named = {(r.info.source, r.info.file) for w in writes for r in w.reads()}
    return sum(
        f.nbytes
        for s in sources
        if s.is_adapted
        for f in own_files(s)
        if not f.in_cache and (s.name, f.name) not in named
    )


def _between(writes: Sequence[Write], far: Collection[tuple[str, str]], gap: int) -> int:
    """Return the bytes that nobody reads and that lie between such as do, at most `gap` together.

    They come along, for less than another request would cost.
    """
    spans: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for write in writes:
        for read in write.reads():
            file = (read.info.source, read.info.file)
            if file in far:
                spans.setdefault(file, set()).add(read.info.span)
    total = 0
    for found in spans.values():
        reached = min(begin for begin, _ in found)
        for begin, end in sorted(found):
            total += begin - reached if 0 < begin - reached <= gap else 0
            reached = max(reached, end)
    return total


def _of_maps(write: Write, reads: Sequence[Read], budget: Budget) -> Fetched:
    """Count what is fetched of a tensor that is summed, or joined, before it is written.

    Maps that lie in one another are read one after the other, each model as often as its rule goes
    through the models, and the base once more for the writing. Once is enough where memory holds
    all inputs meanwhile, and the base until then; held are what is kept so. A base that is wanted
    when all tensors are summed is fetched again then. Lent is the longest part of an input that a
    map is read from.
    """
    root = write.root
    base = root.base if isinstance(root, Fold) else None
    own = sum(r.info.nbytes for r in reads)
    of_base = sum(r.info.nbytes for r in reads if r == base)
    rule = map_rule(write)
    passes = passes_of(rule) if rule is not None else 1
    spans = [m.span for m in rule.matrices] if rule is not None else []
    covered = sum(end - begin for begin, end in spans)
    touches = max(1, math.ceil(covered / max(1, write.n_elements)))
    later = waits_for_norms(write)
    kept = (own if touches * passes > 1 else 0) + (0 if later else of_base * (budget.threads + 1))
    width = max((DTYPES[r.info.dtype].bits // 8 for r in reads), default=0)
    longest = width * max((end - begin for begin, end in spans), default=0)
    if kept <= budget.memory_nbytes:
        return Fetched(own + (of_base if later else 0), kept, longest)
    of_models = passes * (own - of_base)
    return Fetched(touches * (of_models + of_base) + of_base, 0, longest)


def far_nbytes(sources: Sequence[Surveyed]) -> int:
    """Return the bytes of sources' files that are not on this machine."""
    return sum(f.nbytes for f in distinct_files(sources) if not f.in_cache)
