"""Merges of large linear maps, and the memory they take from outside."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from bench.measured import measure
from families import fine_tuned, write_model

LIBRARIES = 48 << 20
"""What linear algebra libraries hold once they were used, which the plan does not count."""
IDLE = "import torch, mdm_kit.run.merge, mdm_kit.maths.covariance, mdm_kit.maths.projection"


def write(root: Path, shape: tuple[int, int], n_maps: int, n: int, dtype: torch.dtype) -> None:
    """Write `base` and n fine-tunes with `n_maps` linear maps and a norm."""
    torch.manual_seed(0)
    name = "model.layers.{}.mlp.up_proj.weight"
    base = {name.format(i): torch.randn(shape).to(dtype) for i in range(n_maps)}
    base["model.norm.weight"] = torch.randn(shape[1]).to(dtype)
    write_model(root / "base", base)
    for i in range(1, n + 1):
        write_model(root / f"m{i}", fine_tuned(base, i))


def memory_of(recipe: Path, out: Path, threads: int = 1) -> int:
    """The most anonymous memory of a merge, without what it takes to be there.

    By one worker, unless told: whether two are at their peak at once is chance.
    """
    idle = measure([sys.executable, "-c", IDLE]).anonymous_nbytes
    program = [sys.executable, "-m", "mdm_kit", "merge", str(recipe), str(out)]
    return measure([*program, "--threads", str(threads)]).anonymous_nbytes - idle
