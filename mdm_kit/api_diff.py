"""The Python API of comparisons: what changed between two models."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mdm_kit.api import at_least_one
from mdm_kit.api_models import opened
from mdm_kit.words import ModelRef

if TYPE_CHECKING:
    from mdm_kit.run.compared import Difference
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Source


def diff(
    a: ModelRef | Source | str | os.PathLike[str],
    b: ModelRef | Source | str | os.PathLike[str],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Difference:
    """Return how model B differs from model A, tensor by tensor, reading both once.

    A model is a folder, a reference as a recipe writes it or an open source, which stays open.
    `progress` hears of bytes read. Raises `UsageError` for what is no reference, `SourceError` and
    `IntegrityError` for a model that cannot be had or contradicts itself; models that differ in
    everything are no error.
    """
    from mdm_kit.planner.planning import default_threads
    from mdm_kit.run.difference import differences
    from mdm_kit.run.matching import matching
    from mdm_kit.run.progress import Silent

    workers = at_least_one("threads", threads, default_threads())
    told = progress or Silent()
    with ExitStack() as until:
        first, second = opened(a, "A", until), opened(b, "B", until)
        told.start(matching(first, second).nbytes, 0)
        return differences(first, second, workers, told.advance)
