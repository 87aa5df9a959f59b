"""Where a merge's time goes, stage by stage; counted always, for it costs a microsecond a tile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

StageName = Literal["read", "measure", "fold", "wait", "write", "sync"]

WHAT: dict[StageName, str] = {
    "read": "workers bring inputs into memory",
    "measure": "workers take inner products",
    "fold": "workers weigh, add and round",
    "wait": "the writer waits for workers",
    "write": "the writer hashes and writes",
    "sync": "the disk confirms shards",
}


@dataclass(slots=True)
class Spent:
    """Seconds of wall time, summed over threads, and the bytes that passed."""

    seconds: float = 0.0
    nbytes: int = 0


class Profile:
    """What each stage took so far."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.stages: dict[StageName, Spent] = {name: Spent() for name in WHAT}
        self._lock = threading.Lock()

    @contextmanager
    def during(self, stage: StageName, nbytes: int = 0) -> Iterator[None]:
        """Add the time of the block, and `nbytes`, to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            with self._lock:
                spent = self.stages[stage]
                spent.seconds += seconds
                spent.nbytes += nbytes
