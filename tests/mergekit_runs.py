"""mergekit as a program, and its results compared with ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_PROGRAM = "import sys; from mergekit.scripts.run_yaml import main; sys.exit(main())"


def run_mergekit(recipe: Path, out: Path, *flags: str) -> None:
    """Merge a recipe file with mergekit's own command into the folder `out`."""
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, recipe, out, "--quiet", *flags],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )


def assert_same_bits(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    wrong = []
    for key, tensor in want.items():
        assert got[key].dtype == tensor.dtype, (key, got[key].dtype, tensor.dtype)
        assert got[key].shape == tensor.shape, key
        bits = [t.reshape(-1).view(torch.uint8) for t in (got[key], tensor)]
        if not torch.equal(*bits):
            off = int((got[key].double() != tensor.double()).sum())
            wrong.append(f"{key}: {off} of {tensor.numel()} differ")
    assert not wrong, wrong
