"""Borrows torch and transformers, and hands them back as they were found."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 1
"""Threads of the demo, on every machine: sums over threads change bits with their number."""


def transformers() -> Any:
    """Return the library, imported now: it takes seconds, and only the demo's work needs it.

    Without types, for its own are partial and change from one release to the next.
    """
    import transformers

    return transformers


@contextmanager
def calm_torch(seed: int = 0) -> Iterator[None]:
    """Run the block with a fixed thread count, float32, gradients on, `seed`, no progress bars.

    Thread count, default dtype, gradient mode, the random state and the progress bars of
    transformers are afterwards what they were before. Not for two threads at once: these belong to
    the process.
    """
    import torch

    logging = transformers().utils.logging
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    bars = logging.is_progress_bar_enabled()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_num_threads(THREADS)
            torch.set_default_dtype(torch.float32)
            logging.disable_progress_bar()
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        if bars:
            logging.enable_progress_bar()
