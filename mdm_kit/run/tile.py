"""Tiles: the pieces of a tensor that are measured or made at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdm_kit.bundle.direct_file import ALIGNMENT
from mdm_kit.planner.nodes import Write
from mdm_kit.run.change_course import ChangeCourse
from mdm_kit.run.course import Course, tiles
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.tally import Tally
from mdm_kit.words import DTYPES

BATCH_NBYTES = 1 << 21
"""Output of small tensors that is made, hashed and written together: what goes with each block
would otherwise cost more than the tensors."""


@dataclass(frozen=True, slots=True)
class Tile:
    """`count` elements of an output tensor from its flat element `start` on.

    `measured` is there where the tensor's coefficients come from inner products taken on the way:
    by tiles that stand before this one, or, where this tile is the whole tensor, from its bytes.
    `course` is there where the tensor's method has a rule.
    """

    write: Write
    start: int
    count: int
    measured: Tally | None = None
    course: Course | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the tensor."""
        return self.count == self.write.n_elements

    @property
    def nbytes(self) -> int:
        """How many output bytes the tile has."""
        return self.count * DTYPES[self.write.dtype].bits // 8


class Reading:
    """A job that only reads: what comes of it goes elsewhere."""

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        """Bytes of output: none."""
        return 0

    @property
    def lead(self) -> int:
        """Room in front of the output: none."""
        return 0


@dataclass(frozen=True, slots=True)
class MeasureTile(Reading):
    """Elements of a tensor whose inner products go to `into`; `start` is where a block begins."""

    into: Tally
    start: int
    count: int

    @property
    def is_last(self) -> bool:
        """Whether the tensor ends here."""
        return self.start + self.count == self.into.write.n_elements


@dataclass(frozen=True, slots=True)
class StageTile(Reading):
    """Elements of a tensor for one stage of its course, which is its `index`th."""

    course: Course
    index: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class MapTile(Reading):
    """A linear map of a tensor, its `index`th, that is to be merged."""

    course: MapCourse
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Tiles that follow each other in the output, the first of them at byte `at` of the file."""

    tiles: tuple[Tile, ...]
    at: int

    @property
    def lead(self) -> int:
        """Room in front of the result, which then lies in memory as it does in the file's pages."""
        return self.at % ALIGNMENT

    @property
    def nbytes(self) -> int:
        """How many output bytes the tiles have together."""
        return sum(t.nbytes for t in self.tiles)

    @property
    def ended(self) -> list[str]:
        """The names of the tensors whose last tile is among these."""
        return [t.write.name for t in self.tiles if t.start + t.count == t.write.n_elements]


Job = Batch | MeasureTile | StageTile | MapTile


def await_sums(job: Job) -> None:
    """Return when all linear maps of the tensors a batch is of are merged."""
    for tile in job.tiles if isinstance(job, Batch) else ():
        if tile.course is not None:
            tile.course.await_sums()


def tiles_of(
    write: Write, size: int, measured: Tally | None = None, course: Course | None = None
) -> Iterator[Tile]:
    """Yield tiles of `size` elements, first element first; none for an empty tensor."""
    for start, count in tiles(write.n_elements, size):
        yield Tile(write, start, count, measured, course)


def stage_tiles_of(course: Course, index: int, size: int) -> Iterator[StageTile]:
    """Yield the tiles of a stage, of about `size` elements."""
    stage = course.stages[index]
    for start, count in tiles(stage.n, stage.tile(size)):
        yield StageTile(course, index, start, count)


def sum_tiles_of(course: ChangeCourse, size: int) -> Iterator[MapTile | StageTile]:
    """Yield what is made of a tensor's change before its first tile is written."""
    if isinstance(course, MapCourse):
        yield from (MapTile(course, i) for i in range(len(course.matrices)))
        return
    for i in range(len(course.stages)):
        yield from stage_tiles_of(course, i, size)


def measure_tiles_of(into: Tally, size: int) -> Iterator[MeasureTile]:
    """Yield what is measured of a tensor, first element first; none for an empty tensor.

    Factors are measured at once.
    """
    size = max(1, into.write.n_elements) if into.is_factored else size
    for start, count in tiles(into.write.n_elements, size):
        yield MeasureTile(into, start, count)


class Batches:
    """Puts tiles that follow each other together, up to `BATCH_NBYTES`, larger ones alone."""

    def __init__(self, at: int) -> None:
        """Hold no tile yet; the first one comes to stand at byte `at` of the file."""
        self._at = at
        self._held: list[Tile] = []
        self._nbytes = 0

    def of(self, tiles: Sequence[Tile]) -> Iterator[Batch]:
        """Take more tiles and yield the batches they complete."""
        for tile in tiles:
            if self._nbytes + tile.nbytes > BATCH_NBYTES:
                yield from self.rest()
            self._held.append(tile)
            self._nbytes += tile.nbytes

    def rest(self) -> Iterator[Batch]:
        """Yield what is held back, if there is any."""
        if self._held:
            yield Batch(tuple(self._held), self._at)
        self._at += self._nbytes
        self._held, self._nbytes = [], 0
