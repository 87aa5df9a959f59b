"""torch on one thread, in the calling thread only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0
_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch's operations in this thread take no help, then as much as before.

    torch keeps the number by thread, and a copy of the last one set, which a thread takes over when
    it first asks or computes. A new thread is made to ask before its number is set: else it would
    take the copy over inside, and that may be another thread's that leaves. The copy is only
    remembered when nobody is inside, so that it is never one of ours.
    """
    global _inside, _before  # noqa: PLW0603 -- torch's number is the process's too
    with _lock:
        now = torch.get_num_threads()
        if not _inside:
            _before = now
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_before)
