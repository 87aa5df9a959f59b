"""One step of OPCM as FusionBench computes it, and as we do, in CPU seconds of one thread.

python projection.py [--large] [--low-rank] [SHAPE...]        SHAPE such as 4096x1024

The sum is a float32 Gaussian matrix and the change another, correlated with it. Errors are those of
the projected change, over the change's norm, against float64 of the same formula with thin factors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mdm_kit.maths.low_rank import Factors, add_low_rank
from mdm_kit.maths.projection import Projection
from mdm_kit.maths.strips import MatrixStrip

ALPHA = 0.5
SHAPES = ["1024x1024", "2048x2048", "4096x1024"]
LARGE = ["14336x1024"]
DENSE_UP_TO = 2048 * 2048


def theirs(total: Tensor, change: Tensor, *, full: bool = True) -> Tensor:
    """The formula of FusionBench's `opcm_general.merge_linear_weights`."""
    u, sigma, vh = torch.linalg.svd(total, full_matrices=full)
    k = int((sigma.cumsum(0) / sigma.sum() > ALPHA).float().argmax())
    if full:
        p = u.T @ change @ vh.T
        p.diagonal().fill_(0)
        p[:k, :k] = 0
        return u @ p @ vh
    p = u.T @ change @ vh.T
    taken = torch.diag(p.diagonal())
    taken[:k, :k] = p[:k, :k]
    return change - u @ taken @ vh


def ours(total: Tensor, change: Tensor) -> Tensor:
    """The new sum, in place."""
    steps = Projection(MatrixStrip(total), alpha=ALPHA, variant="reference", tail_tol=None)
    steps.add(MatrixStrip(change), 0.0)
    return total


def best(function: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return min(found)


def compare(shape: str) -> None:
    m, n = (int(side) for side in shape.split("x"))
    total = torch.randn(m, n) * 1e-3
    change = torch.randn(m, n) * 1e-3 + 0.3 * total
    times = 1 if m * n > DENSE_UP_TO * 2 else 3
    copies = [total.clone() for _ in range(times)]
    queue = iter(copies)
    ours_s = best(lambda: ours(next(queue), change), times)
    theirs_s = best(lambda: theirs(total, change), times)
    line = (
        f"{shape:>12}  theirs {theirs_s:7.2f} s  ours {ours_s:6.2f} s  {theirs_s / ours_s:5.2f} x"
    )
    if m * n <= DENSE_UP_TO:
        want = theirs(total.double(), change.double(), full=False)
        mine = (copies[0].double() - total.double() - want).norm() / change.norm()
        other = (theirs(total, change).double() - want).norm() / change.norm()
        line += f"  error: theirs {other:.1e}, ours {mine:.1e}"
    print(line, flush=True)


def compare_low_rank(size: int, rank: int) -> None:
    pairs = [torch.randn(size, rank).double() for _ in range(4)]
    total, change = Factors(pairs[0], pairs[1].T), Factors(pairs[2], pairs[3].T)
    held, d = total.dense().float(), change.dense().float()

    def factored() -> Factors:
        return add_low_rank(total, change, alpha=ALPHA, variant="reference", tail_tol=1e-7).kept

    factored_s = best(factored, 20)
    dense_s = best(lambda: ours(held.clone(), d), 2)
    theirs_s = best(lambda: theirs(held, d), 1)
    print(
        f"{size}x{size} of rank {rank}: theirs {theirs_s:.2f} s, ours dense {dense_s:.2f} s, "
        f"factored {factored_s:.5f} s: {dense_s / factored_s:.0f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE")
    parser.add_argument("--large", action="store_true", help="14336x1024 as well")
    parser.add_argument("--low-rank", action="store_true", help="factors against dense matrices")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if asked.low_rank:
        compare_low_rank(2048, 16)
        return
    for shape in asked.shapes or [*SHAPES, *(LARGE if asked.large else [])]:
        compare(shape)


main()
