"""A gate that lets work in as long as there is memory for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Holds back what does not fit into `nbytes` beside what is inside; one is always let in."""

    def __init__(self, nbytes: int) -> None:
        """Let work in up to this many bytes together."""
        self._limit = nbytes
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def room(self, nbytes: int) -> Iterator[None]:
        """Wait for room, and have it until the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + nbytes <= self._limit)
            self._held += nbytes
        try:
            yield
        finally:
            with self._changed:
                self._held -= nbytes
                self._changed.notify_all()
