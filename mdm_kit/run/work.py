"""What a worker does with a tile: borrow its inputs, and then copy, measure or fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.ledger.products import Products
from mdm_kit.maths.low_rank import gram_of
from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.nodes import Apply, Read, Write, inputs_of
from mdm_kit.planner.solving import Group, is_blurred
from mdm_kit.run.course import Borrow, Course, Stage
from mdm_kit.run.courses import course_of
from mdm_kit.run.executor import Bytes
from mdm_kit.run.factored_fold import FactoredFold
from mdm_kit.run.factors import factors_of
from mdm_kit.run.foresight import Foresight
from mdm_kit.run.inputs import Inputs
from mdm_kit.run.not_finite import not_finite
from mdm_kit.run.profile import Profile
from mdm_kit.run.summing import Summing
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import Batch, Job, MapTile, MeasureTile, StageTile, Tile, measure_tiles_of
from mdm_kit.run.weights import Weights, known_weights, solve_groups
from mdm_kit.sources import Source
from mdm_kit.words import shown

J = TypeVar("J", bound=Job)


class Kernels(Protocol):
    """The arithmetic of one device."""

    def fold(
        self, inputs: Inputs, out: Bytes, out_dtype: str, *, base: bool, weights: Weights
    ) -> bool:
        """Fold inputs into `out`, rounded to `out_dtype`; return whether every value is finite."""

    def measure(
        self, inputs: Inputs, out: NDArray[np.float64], *, known: int, wide: bool, exact: bool
    ) -> None:
        """Write the inner products of inputs (the base first) into `out` (blocks, pairs).

        Without those that the first `known` models have among one another.
        """


@dataclass(slots=True)
class Work:
    """Does the jobs of a merge.

    `grams`, `exact` (compensated sums) and `weights`, all by tensor name, and `groups` grow by what
    is measured on the way. `known` are products of the first models, from an earlier merge. Folds
    run on the device of the `kernels`, rules on the CPU.
    """

    kernels: Kernels
    sources: Mapping[str, Source]
    weights: dict[str, Weights] = field(default_factory=dict)
    known: Products = field(default_factory=Products)
    grams: dict[str, Gram] = field(default_factory=dict)
    exact: dict[str, Gram] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    seed: int = 0
    summing: Summing = field(default_factory=Summing)
    foresight: Foresight = field(default_factory=lambda: Foresight(()))
    _known: dict[tuple[int, int, str], Weights] = field(default_factory=dict)

    def course_of(self, write: Write) -> Course | None:
        """Return how a tensor whose method has a rule is read and written, else None."""
        return course_of(write, self.seed, self.summing)

    def ahead(self, jobs: Iterable[J]) -> Iterator[J]:
        """Yield the jobs, having told far sources what they and those behind them will read."""
        return self.foresight.ahead(jobs, self.announce)

    def announce(self, job: Job) -> int:
        """Tell far sources what a job will read, and return its bytes."""
        if isinstance(job, Batch):
            whole = [
                t.course.whole_reads
                for t in job.tiles
                if t.course and not t.start and (t.is_whole or not t.measured)
            ]
            factors = sum(self._announce_whole(reads) for reads in whole)
            return factors + sum(self._unread_of(t).announce() for t in job.tiles)
        if isinstance(job, MapTile):
            return job.course.announce(job.index, self.borrower(job.course.write))
        if isinstance(job, MeasureTile) and job.into.is_factored:
            return self._announce_whole(job.into.write.reads())
        write = job.into.write if isinstance(job, MeasureTile) else job.course.write
        return self.unread(write, job.start, job.count).announce()

    def _announce_whole(self, reads: Sequence[Read]) -> int:
        each = (Inputs(self.sources, (read,), 0, read.info.n_elements) for read in reads)
        return sum(one.announce() for one in each)

    def _unread_of(self, tile: Tile) -> Inputs:
        """Return what a tile of the output is made of, not borrowed yet."""
        course = tile.course
        if course is None or (tile.is_whole and course.stages):
            return self.unread(tile.write, tile.start, tile.count)
        return Inputs(self.sources, course.fill_reads, tile.start, tile.count)

    def unread(self, write: Write, start: int, count: int) -> Inputs:
        """Return the inputs of some elements of a tensor, not borrowed yet."""
        reads, _ = inputs_of(write)
        return Inputs(self.sources, reads, start, count)

    def __call__(self, job: Job, out: Bytes) -> None:
        """Measure a tile, or fill `out` (job.nbytes,) with the bytes of a batch.

        Raises `MisfitError` where tensors that are copied differ, `NotFiniteError` where a result
        is not finite, and whatever a source raises.
        """
        if isinstance(job, MeasureTile):
            self._measure(job)
            return
        if isinstance(job, StageTile):
            self._stage(job)
            return
        if isinstance(job, MapTile):
            job.course.merge_map(job.index, self.borrower(job.course.write), self.summing.gate)
            return
        at = 0
        for tile in job.tiles:
            self._write(tile, out[at : at + tile.nbytes])
            at += tile.nbytes

    def _measure(self, tile: MeasureTile) -> None:
        reads, _ = inputs_of(tile.into.write)
        try:
            if tile.into.is_factored:
                self._measure_factors(tile.into)
                return
            with self.inputs(reads, tile.start, tile.count) as inputs:
                self._measure_inputs(tile.into, tile.start, inputs)
        except BaseException:
            tile.into.countdown.give_up()
            raise

    def _stage(self, tile: StageTile) -> None:
        course, stage = tile.course, tile.course.stages[tile.index]
        try:
            borrow = self.borrower(course.write)
            course.settle(tile.index, borrow)
            with borrow(tile.start, tile.count) as inputs:
                self._read_stage(stage, inputs, tile.start)
        except BaseException:
            stage.countdown.give_up()
            raise

    def _read_stage(self, stage: Stage, inputs: Inputs, start: int) -> None:
        with self.profile.during("measure", inputs.nbytes):
            stage.read(inputs, start)
        stage.countdown.done(inputs.count)

    def borrower(self, write: Write) -> Borrow:
        """Return what lends the inputs of a tensor's elements."""
        return _Borrower(self, write)

    def _fill(self, tile: Tile, course: Course, out: Bytes) -> None:
        """Write a tile of a tensor with a rule; all its stages too where it is the whole tensor."""
        apply, dtype = tile.write.apply(), tile.write.dtype
        wide = apply is not None and apply.compute == "float64"
        borrow = self.borrower(tile.write)
        with self._borrowed(self._unread_of(tile)) as inputs:
            for i, stage in enumerate(course.stages if tile.is_whole else ()):
                course.settle(i, borrow)
                if stage.n:
                    self._read_stage(stage, inputs, 0)
            course.settle(len(course.stages), borrow)
            if isinstance(course, FactoredFold) and apply is not None:
                weights = self._weights(tile, apply, inputs)
                course.weigh(weights, borrow, tile.measured.factors if tile.measured else None)
            with self.profile.during("fold", inputs.nbytes):
                finite = course.fill(inputs, tile.start, out, dtype, wide=wide)
            if not finite:
                values = np.empty(tile.count)
                course.fill(inputs, tile.start, values.view(np.uint8), "F64", wide=True)
                raise NotFiniteError(not_finite(tile.write, tile.start, inputs, values))

    def _measure_factors(self, into: Tally) -> None:
        write = into.write
        apply = write.apply()
        inputs = apply.inputs if apply else ()
        into.factors = factors_of(inputs, write.shape, self.borrower(write))
        with self.profile.during("measure"), one_thread():
            into.rows(0, 1)[0] = gram_of(into.factors).triangle
        into.countdown.done(write.n_elements)

    def _measure_inputs(self, into: Tally, start: int, inputs: Inputs) -> None:
        apply = into.write.apply()
        wide = apply is not None and apply.compute == "float64"
        rows = into.rows(start, inputs.count)
        with self.profile.during("measure", inputs.nbytes):
            self.kernels.measure(inputs, rows, known=into.n_known, wide=wide, exact=into.exact)
        into.countdown.done(inputs.count)

    def _write(self, tile: Tile, out: Bytes) -> None:
        if tile.course is not None:
            self._fill(tile, tile.course, out)
            return
        reads, base = inputs_of(tile.write)
        apply = tile.write.apply()
        with self.inputs(reads, tile.start, tile.count) as inputs:
            if apply is None:
                _copy_equal(tile, reads, inputs, out)
                return
            weights = self._weights(tile, apply, inputs)
            dtype = tile.write.dtype
            with self.profile.during("fold", inputs.nbytes):
                finite = self.kernels.fold(inputs, out, dtype, base=base, weights=weights)
            if not finite:
                values = np.empty(tile.count)
                wide = Weights(weights.values, True)
                room = values.view(np.uint8)
                self.kernels.fold(inputs, room, "F64", base=base, weights=wide)
                raise NotFiniteError(not_finite(tile.write, tile.start, inputs, values))

    def inputs(self, reads: Sequence[Read], start: int, count: int) -> Inputs:
        """Return the inputs of some elements, borrowed."""
        return self._borrowed(Inputs(self.sources, reads, start, count))

    def _borrowed(self, inputs: Inputs) -> Inputs:
        with self.profile.during("read", inputs.nbytes):
            inputs.borrow()
        return inputs

    def _weights(self, tile: Tile, apply: Apply, inputs: Inputs) -> Weights:
        if apply.weights is not None:
            return known_weights(apply)
        if apply.group is None:
            key = (id(apply.params), len(apply.inputs), apply.compute)
            if key not in self._known:
                self._known[key] = known_weights(apply)
            return self._known[key]
        if tile.measured is not None:
            with tile.measured.settling:
                if tile.write.name not in self.weights:
                    self._settle(tile, tile.measured, inputs)
        return self.weights[tile.write.name]

    def tally(self, write: Write, *, exact: bool) -> Tally:
        """Return an empty tally for a tensor that is to be measured."""
        known = self.known.exact if exact else self.known.plain
        return Tally(write, exact=exact, known=known.get(write.name))

    def solve(self, writes: Sequence[Write]) -> None:
        """Solve the groups of tensors whose Gram matrices are all known."""
        groups, weights = solve_groups(writes, self.grams, self.exact)
        self.groups |= groups
        self.weights |= weights

    def _settle(self, tile: Tile, measured: Tally, inputs: Inputs) -> None:
        """Find the weights of a tensor that is measured on the way."""
        if tile.is_whole and measured.is_factored:
            self._measure_factors(measured)
        elif tile.is_whole:
            self._measure_inputs(measured, 0, inputs)
        name = tile.write.name
        self.grams[name] = measured.gram()
        if is_blurred([self.grams[name]]) and name not in self.exact:
            exact = self.tally(tile.write, exact=True)
            for part in list(self.ahead(measure_tiles_of(exact, tile.count))):
                self._measure(part)
            self.exact[name] = exact.gram()
        self.solve([tile.write])


@dataclass(frozen=True, slots=True)
class _Borrower:
    """Lends the inputs of one tensor; see `course.Borrow`."""

    work: Work
    write: Write

    def __call__(self, start: int, count: int) -> Inputs:
        reads, _ = inputs_of(self.write)
        return self.work.inputs(reads, start, count)

    @property
    def profile(self) -> Profile:
        return self.work.profile

    def of(self, reads: Sequence[Read], start: int, count: int) -> Inputs:
        return self.work.inputs(reads, start, count)

    def unread(self, reads: Sequence[Read], start: int, count: int) -> Inputs:
        return Inputs(self.work.sources, reads, start, count)

    def ahead(self, parts: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        return self.work.foresight.ahead(
            parts, lambda part: self.work.unread(self.write, *part).announce()
        )


def _copy_equal(tile: Tile, reads: tuple[Read, ...], inputs: Inputs, out: Bytes) -> None:
    out[:] = inputs.array(0)
    for i, read in enumerate(reads[1:], start=1):
        if not np.array_equal(out, inputs.array(i)):
            raise MisfitError(
                f"{shown(tile.write.name)} has dtype {tile.write.dtype}, which is copied and "
                f"not merged, but differs between {reads[0].info.source} and "
                f"{read.info.source}; merge only models that agree in it"
            )
