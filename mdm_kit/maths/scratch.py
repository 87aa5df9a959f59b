"""Memory a thread's kernels work in, kept from call to call."""

from __future__ import annotations

import threading

import numpy as np


class Scratch(threading.local):
    """One block for each thread, grown when a call needs more."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held = np.empty(0, np.uint8)
        self._address = 0

    def address(self, nbytes: int) -> int:
        """Return where at least `nbytes` bytes lie, at a multiple of 64, until the next call."""
        if self._held.size < nbytes + 64:
            self._held = np.empty(nbytes + 64, np.uint8)
            self._address = -(-self._held.ctypes.data // 64) * 64
        return self._address
