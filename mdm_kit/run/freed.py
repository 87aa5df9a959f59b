"""Large blocks of memory that go back to the system when they are freed.

The GNU C library learns from the first large block that is freed to keep the next ones, up to 32
MiB, for their next use. Work that takes and frees large matrices, model after model, would then
hold what it needed in every order it needed it in.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

LARGE_NBYTES = 4 << 20
"""Blocks from here on are given back at once: the system clears a fresh one in a millisecond, and
who needs one works for longer."""
_M_MMAP_THRESHOLD = -3  # malloc.h


@cache
def give_back_large_blocks() -> None:
    """Let this process's large blocks go when they are freed; glibc alone is told."""
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGE_NBYTES)
