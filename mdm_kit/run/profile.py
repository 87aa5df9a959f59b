"""Where a merge's time goes, stage by stage; counted always, for it costs a microsecond a tile."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

StageName = Literal["read", "measure", "gram", "eigen", "products", "fold", "wait", "write", "sync"]

WHAT: dict[StageName, str] = {
    "read": "workers bring inputs into memory",
    "measure": "workers take inner products",
    "gram": "workers take Gram matrices of linear maps",
    "eigen": "workers solve eigenproblems and factorise",
    "products": "workers project linear maps",
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

    def during(self, stage: StageName, nbytes: int = 0) -> AbstractContextManager[None]:
        """Add the time of the block, and `nbytes`, to a stage."""
        return _Clock(self.stages[stage], self._lock, nbytes)


class _Clock(AbstractContextManager[None]):
    """Times a block; a class, because a generator takes three times as long as what it times."""

    __slots__ = ("_lock", "_nbytes", "_spent", "_started")

    def __init__(self, spent: Spent, lock: threading.Lock, nbytes: int) -> None:
        self._spent, self._lock, self._nbytes = spent, lock, nbytes

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._started
        with self._lock:
            self._spent.seconds += seconds
            self._spent.nbytes += self._nbytes
