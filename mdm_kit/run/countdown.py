"""Elements that are still to come, counted down by any worker, and somebody who waits for them."""

from __future__ import annotations

import threading


class Countdown:
    """Over when all of n elements are done, or when somebody gave up."""

    def __init__(self, n: int) -> None:
        """Wait for n elements; none are over at once."""
        self._left = n
        self._lock = threading.Lock()
        self._over = threading.Event()
        if not n:
            self._over.set()

    def done(self, count: int) -> None:
        """`count` more elements are done."""
        with self._lock:
            self._left -= count
            if not self._left:
                self._over.set()

    def give_up(self) -> None:
        """Let nobody wait for what failed."""
        self._over.set()

    def wait(self) -> bool:
        """Wait for the end; return whether every element came."""
        self._over.wait()
        return not self._left
