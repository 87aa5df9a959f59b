"""Stages that find the scores of given ranks, exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.select_tile import Scoring, select_tile
from mdm_kit.maths.selection import SAMPLE_FROM, Scores, Selection
from mdm_kit.run.course import Borrow, Stage, tiles
from mdm_kit.run.inputs import Inputs


class Selecting:
    """Selections that are made on the same readings: which model's scores, and which rank.

    `scoring` is asked for when the first tile is read, `conclude` called when all are solved.
    """

    def __init__(
        self,
        n: int,
        chosen: Sequence[tuple[int, Selection]],
        scoring: Callable[[], Scoring],
        conclude: Callable[[], None],
        *,
        wide: bool,
    ) -> None:
        """Take the selections, each with the index of its model."""
        chosen = sorted(chosen, key=lambda pair: pair[0])  # one model's scores are made once
        self.conclude = conclude
        self.n = n
        self._models = [model for model, _ in chosen]
        self._selections = [selection for _, selection in chosen]
        self._scoring = scoring
        self._wide = wide

    def stages(self) -> list[Stage]:
        """Return the readings this takes: a sample first where the tensor is large."""
        passing = _Passing(self)
        return [passing] if self.n <= SAMPLE_FROM else [_Sampling(self), passing]

    def sample(self, inputs: Inputs, start: int) -> list[Scores]:
        """Return a sample of a tile's scores, for each selection."""
        return self._select(inputs, start, range(len(self._selections)), sample=True)[1]

    def aim(self, samples: Sequence[Sequence[Scores]]) -> None:
        """Choose pivots from the samples of all tiles."""
        for i, selection in enumerate(self._selections):
            selection.sampled(np.concatenate([s[i] for s in samples]))

    def add(self, inputs: Inputs, start: int, which: Sequence[int] | None = None) -> None:
        """Count and collect a tile's scores, for all selections or some."""
        which = range(len(self._selections)) if which is None else which
        counts, scores, whole = self._select(inputs, start, which, sample=False)
        for at, i in enumerate(which):
            self._selections[i].add(start, counts[:, at], scores[at], whole[at])

    def finish(self, borrow: Borrow) -> None:
        """Solve all selections, reading again, block by block, for those whose sample misled."""
        left = [i for i, s in enumerate(self._selections) if not s.solve()]
        while left:
            for start, count in borrow.ahead(tiles(self.n, BLOCK)):
                with borrow(start, count) as inputs:
                    self.add(inputs, start, left)
            left = [i for i in left if not self._selections[i].solve()]

    def _select(
        self, inputs: Inputs, start: int, which: Sequence[int], *, sample: bool
    ) -> tuple[np.ndarray, list[Scores], list[bool]]:
        return select_tile(
            inputs.stored(start, wide=self._wide),
            scoring=self._scoring(),
            models=[self._models[i] for i in which],
            pivots=[self._selections[i].pivots for i in which],
            sample=sample,
        )


class _Sampling(Stage):
    """Samples the scores, so that few lie between the pivots of the next stage."""

    def __init__(self, selecting: Selecting) -> None:
        super().__init__(selecting.n)
        self._selecting = selecting
        self._samples: dict[int, list[Scores]] = {}
        self._adding = threading.Lock()

    def read(self, inputs: Inputs, start: int) -> None:
        sample = self._selecting.sample(inputs, start)
        with self._adding:
            self._samples[start] = sample

    def settle(self, borrow: Borrow) -> None:
        self._selecting.aim([self._samples[start] for start in sorted(self._samples)])
        self._samples.clear()


class _Passing(Stage):
    """Counts and collects."""

    def __init__(self, selecting: Selecting) -> None:
        super().__init__(selecting.n)
        self._selecting = selecting

    def read(self, inputs: Inputs, start: int) -> None:
        self._selecting.add(inputs, start)

    def settle(self, borrow: Borrow) -> None:
        self._selecting.finish(borrow)
        self._selecting.conclude()
