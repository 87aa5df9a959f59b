"""Randomised factors of a change against torch's singular value decomposition, on one thread.

    python tests/bench/low_rank_svd.py [side] [rank]

Both in one process, in turn; the fastest of three. Errors are ‖d − BA‖ over the best of that rank.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mdm_kit.maths.range_finder import Factored, numbers_of, of_rank

RUNS = 3


def changes(n: int) -> dict[str, Tensor]:
    """Return changes (n, n) float32 of the spectra that fine-tunes have, and of none."""
    numbers = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers)

    base = normal(n, n) / math.sqrt(n)
    change = 0.1 * normal(n, 16) @ normal(16, n) / n
    left, right = (torch.linalg.qr(normal(n, n))[0] for _ in range(2))
    return {
        "flat": normal(n, n),
        "decaying": left * torch.arange(1.0, n + 1).rsqrt() @ right,
        "low rank, rounded": (base + change).bfloat16().float() - base.bfloat16().float(),
    }


def fastest(work: Callable[[], object]) -> float:
    """Return the least seconds of `RUNS` runs."""
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def main(side: int, rank: int) -> None:
    """Print a line for each spectrum."""
    torch.set_num_threads(1)
    print(f"{side} x {side}, rank {rank}, one thread")
    for name, d in changes(side).items():

        def randomised(d: Tensor = d) -> Factored:
            return of_rank(d, rank, numbers_of(0, "t"))

        ours = fastest(randomised)
        theirs = fastest(lambda d=d: torch.linalg.svd(d, full_matrices=False))  # type: ignore[misc]
        best = float(torch.linalg.svdvals(d.double())[rank:].norm())
        found = randomised()
        error = float((d.double() - found.left.double() @ found.right.double()).norm())
        print(
            f"{name:18} {ours:7.3f} s, torch.linalg.svd {theirs:7.3f} s, "
            f"{theirs / ours:6.1f} times; error {error / best:.5f} of the best"
        )


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [2048, 32][len(given) :]))
