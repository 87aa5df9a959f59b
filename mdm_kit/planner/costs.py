"""What a plan will cost, counted before the first byte is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.planner.compat import is_compat
from mdm_kit.planner.fetching import far_nbytes, fetched
from mdm_kit.planner.layout import Shard
from mdm_kit.planner.maps import map_nbytes, map_rule, map_seconds
from mdm_kit.planner.nodes import Write, inputs_of
from mdm_kit.planner.ruling import readings, rule_memory
from mdm_kit.planner.sums import (
    KEPT_SUMS,
    memory_of_sums,
    n_models,
    passing_nbytes,
    sums_files,
    unwritten_nbytes,
    waits_for_norms,
)
from mdm_kit.planner.survey import Surveyed
from mdm_kit.planner.weight_files import distinct_files
from mdm_kit.sources import AHEAD_NBYTES
from mdm_kit.words import DTYPES

TILE_ELEMENTS = 1 << 20
"""Elements of one tile at most: 2 MiB of bfloat16 from each model. What goes with each tile, calls
and locks, is a hundredth of its work."""
SPARE_TILES = 2
"""Finished tiles that may wait to be hashed and written, beyond one for each worker."""
DEFAULT_MEMORY_NBYTES = 2_000_000_000
"""Memory a merge may take for its tensors where nobody says how much."""
_LEAST_AHEAD_NBYTES = 16 << 20
"""Less would make requests so small that their number costs more than the memory."""
_MANIFEST_NBYTES = 400
"""Manifest, index, card and recipe, for each tensor; measured at about 300."""
_HEADER_COPIES = 8
"""Memory a header takes once parsed and planned, as a multiple of its text; measured on 10,000
tensors in four models."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes and passes of a merge.

    `read_nbytes` counts every byte as often as it is read, but for groups that turn out to be
    nearly dependent, which are read once more; `read_twice` are the tensors that are read more than
    once: for their inner products, ranks or sums, and then for the merge, which is `passes` times
    at most. `download_nbytes` is not on this machine: it is fetched as it is read, or downloaded
    first. `memory_nbytes` is the peak beyond the interpreter and its libraries with `threads`
    workers, `held_nbytes` the part of it that holds what was fetched; `disk_nbytes` is the room the
    output takes while it is written. `maps` linear maps are solved by themselves, which takes one
    core about `maps_s` seconds. `side_nbytes` is the part of the disk for files beside the weights.
    `stages_nbytes` of tensors of earlier stages are written and read on the way; `again_nbytes` of
    those that are made as they are read are made once more, for want of memory.
    """

    read_nbytes: int
    read_twice: int
    download_nbytes: int
    write_nbytes: int
    disk_nbytes: int
    memory_nbytes: int
    held_nbytes: int
    threads: int
    passes: int
    barriers: int
    maps: int = 0
    maps_s: float = 0.0
    side_nbytes: int = 0
    stages_nbytes: int = 0
    again_nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """How many workers there are and how much memory their tensors may take.

    The inner products of the tensors in `known` need not be measured.
    """

    threads: int
    memory_nbytes: int = DEFAULT_MEMORY_NBYTES
    known: frozenset[str] = frozenset()

    def reads_once(self, write: Write) -> bool:
        """Whether a tensor is measured, solved and folded in one reading.

        Only where no other tensor shares its group, and where its inputs fit the budget whole.
        """
        apply = write.apply()
        if apply is None or apply.group is None or write.name in self.known:
            return True
        return apply.alone and _read_nbytes(write) <= self.memory_nbytes

    def tile_of(self, write: Write) -> int:
        """Return how many elements of this tensor a tile has: whole blocks, within the budget.

        All of it under compatibility with mergekit, whose sums are those of whole tensors.
        """
        apply = write.apply()
        if apply is not None and is_compat(apply.compute):
            return max(1, write.n_elements)
        tile = TILE_ELEMENTS
        while tile > BLOCK and self.memory_of(write, tile) > self.memory_nbytes:
            tile //= 2
        return tile

    def memory_of(self, write: Write, tile: int) -> int:
        """Return the bytes all workers take for tiles of `tile` elements of this tensor."""
        reads, own = write.reads(), rule_memory(write, tile, self.threads)
        apply = write.apply()
        if apply is not None and apply.is_factored:
            # As float64, together, and once more where they are put together; the change of a tile.
            own += 2 * sum(8 * r.info.n_elements for r in apply.reads) + 8 * tile * self.threads
            reads = inputs_of(write)[0]
        widest = max((DTYPES[r.info.dtype].bits // 8 for r in reads), default=0)
        out = DTYPES[write.dtype].bits // 8
        inputs = self.threads * len(reads) * widest
        return tile * (inputs + (self.threads + SPARE_TILES) * max(1, out)) + own

    @property
    def array_nbytes(self) -> int:
        """How large an array of sums may be to grow in memory; a larger one grows in a file."""
        return self.memory_nbytes // (self.threads + SPARE_TILES)

    @property
    def ahead_nbytes(self) -> int:
        """How many bytes are fetched before they are used, of models not on this machine."""
        return max(_LEAST_AHEAD_NBYTES, min(AHEAD_NBYTES, self.memory_nbytes // 4))

    def fetchings_of(self, write: Write, kept_nbytes: int) -> int:
        """Return how often those of a tensor's inputs that are far are fetched.

        Once for all its readings where memory holds `kept_nbytes`: all of them, and those kept of
        the tensor before, whose last reading comes after the first of this.
        """
        if not self.reads_once(write):
            return 2
        return 1 if kept_nbytes <= self.memory_nbytes else self.touches_of(write)

    def touches_of(self, write: Write) -> int:
        """Return how often a tensor's inputs are asked for: what is measured on the way, twice."""
        readings = self.readings_of(write)
        apply = write.apply()
        measured = apply is not None and apply.group is not None and write.name not in self.known
        return 2 if measured and write.n_elements > self.tile_of(write) else readings

    def readings_of(self, write: Write) -> int:
        """Return how often a tensor's inputs are read."""
        if not self.reads_once(write):
            return 2
        return readings(write, self.tile_of(write))


def costs(
    sources: Sequence[Surveyed],
    shards: Sequence[Shard],
    budget: Budget,
    side_nbytes: int,
    keep: str = "references",
) -> Costs:
    """Count what writing `shards` and `side_nbytes` of other files from `sources` takes.

    `keep` is the recipe's: kept models are read once more, and take no more room than they have.
    """
    writes = [p.write for s in shards for p in s.tensors]
    often = [budget.readings_of(w) for w in writes]
    twice = sum(n > 1 for n in often)
    write_nbytes = sum(s.nbytes for s in shards)
    files = distinct_files(sources)
    headers = sum(f.header_nbytes for f in files)
    coming = fetched(sources, writes, budget)
    everything = sum(f.nbytes for f in files)
    base = sources[0].checkpoint.nbytes if sources else 0
    coded = everything if keep.startswith("deltas") else 0
    kept = coded - (base if keep == "deltas" else 0)
    keeps = keep == KEPT_SUMS
    sums_nbytes = sum(file.nbytes for file in sums_files(shards, keeps=keeps))
    maps = [
        (rule, matrix, n_models(apply))
        for w in writes
        if (rule := map_rule(w)) is not None and (apply := w.apply()) is not None
        for matrix in rule.matrices
    ]
    return Costs(
        read_nbytes=sum(n * _read_nbytes(w) for n, w in zip(often, writes, strict=True)) + coded,
        read_twice=twice,
        download_nbytes=coming.nbytes + (far_nbytes(sources) if coded else 0),
        write_nbytes=write_nbytes,
        disk_nbytes=write_nbytes
        + kept
        + sums_nbytes
        + _passing_peak(writes, budget, keeps=keeps)
        + side_nbytes
        + _MANIFEST_NBYTES * (1 + len(writes)),
        memory_nbytes=_HEADER_COPIES * headers
        + max((_peak(w, budget) for w in writes), default=0)
        + _maps_peak(writes, max((map_nbytes(*one) for one in maps), default=0), budget, keeps)
        + coming.held_nbytes
        + coming.lent_nbytes,
        held_nbytes=coming.held_nbytes,
        threads=budget.threads,
        passes=max(often, default=1),
        barriers=int(any(not budget.reads_once(w) or waits_for_norms(w) for w in writes)),
        maps=len(maps),
        maps_s=sum(map_seconds(*one) for one in maps),
        side_nbytes=side_nbytes,
    )


def _maps_peak(writes: Sequence[Write], largest: int, budget: Budget, keeps: bool) -> int:
    """Return the memory that linear maps take: as many at once as fit, and what waits.

    `largest` is that of one map. Sums wait for their turn, and results for the tiles before them.
    """
    at_once = min(budget.threads * largest, max(budget.memory_nbytes, largest))
    most = budget.array_nbytes
    sums = max((memory_of_sums(w, keeps=keeps, most_nbytes=most) for w in writes), default=0)
    blocks = budget.threads + SPARE_TILES
    unwritten = max(
        (
            unwritten_nbytes(w, keeps=keeps, most_nbytes=most)
            * min(blocks, 1 + -(-blocks * budget.tile_of(w) // max(1, w.n_elements)))
            for w in writes
            if map_rule(w) is not None
        ),
        default=0,
    )
    return at_once + (budget.threads + 1) * sums + unwritten


def _passing_peak(writes: Sequence[Write], budget: Budget, *, keeps: bool) -> int:
    """Return the disk that sums take for a while: those of as many tensors as are summed ahead."""
    most = budget.array_nbytes
    sizes = sorted(passing_nbytes(w, keeps=keeps, most_nbytes=most) for w in writes)
    return sum(sizes[-budget.threads - 1 :])


def _read_nbytes(write: Write) -> int:
    return sum(r.info.nbytes for r in write.reads())


def _peak(write: Write, budget: Budget) -> int:
    return budget.memory_of(write, min(max(1, write.n_elements), budget.tile_of(write)))
