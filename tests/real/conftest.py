"""Real families, built once per session in a folder that goes when the session ends."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from real_models import RealFamily, build_minilm, build_smollm2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFamily]:
    """all-MiniLM-L6-v2 and two fine-tunes, float32."""
    yield from _built(tmp_path_factory.mktemp("minilm"), build_minilm)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFamily]:
    """SmolLM2-135M-Instruct and two fine-tunes, bfloat16."""
    yield from _built(tmp_path_factory.mktemp("smollm2"), build_smollm2)


def _built(folder: Path, build: Callable[[Path], RealFamily]) -> Iterator[RealFamily]:
    """Yield a family and remove it: pytest would keep a gigabyte of three sessions each."""
    import torch
    from transformers.utils import logging

    bars, threads = logging.is_progress_bar_enabled(), torch.get_num_threads()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # a second thread on a busy machine makes a step three times slower
    try:
        yield build(folder)
    finally:
        shutil.rmtree(folder)
        torch.set_num_threads(threads)
        if bars:
            logging.enable_progress_bar()
