"""What adding a model to covariance sums and solving them cost: python tests/bench/covariance.py

One thread, one process. Beside each time stands how many times as long dense float64 torch takes
for the same step: dᵀd, d dᵀd and three additions; np.linalg.solve's way for the solve. Then the
flops a second, counted as a plan counts them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from mdm_kit.maths.covariance import Sums, add, grids_of, solve
from mdm_kit.maths.covariance_costs import add_flops, solve_flops
from mdm_kit.maths.grid import n_triangle

SHAPES = ((1024, 1024), (4096, 1024), (1024, 4096))
REPEATS = 3
RIDGE = 1.0

Step = Callable[[], object]


class Held:
    def __init__(self, d: torch.Tensor) -> None:
        self.d = d
        self.rows, self.columns = d.shape

    def lines(self, start: int, count: int) -> torch.Tensor:
        return self.d[start : start + count]


class Dense:
    """The formula as it is written."""

    def __init__(self, n_out: int, n_in: int) -> None:
        self.a = torch.zeros(n_out, n_in, dtype=torch.float64)
        self.p = torch.zeros_like(self.a)
        self.c = torch.zeros(n_in, n_in, dtype=torch.float64)

    def add(self, d: torch.Tensor) -> None:
        d = d.double()
        c = d.T @ d / d.square().sum()
        self.a += d
        self.p += d @ c
        self.c += c

    def solve(self) -> torch.Tensor:
        mu = RIDGE * self.c.trace() / len(self.c)
        ridged = self.c + mu * torch.eye(len(self.c), dtype=torch.float64)
        return self.a + torch.linalg.solve(ridged, (self.p - self.a @ self.c).T).T


def fastest(step: Step) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(n_out: int, n_in: int) -> None:
    d = 0.01 * torch.randn(n_out, n_in)
    sums = Sums(
        np.zeros((n_out, n_in), np.int64),
        np.zeros((n_out, n_in), np.int64),
        np.zeros(n_triangle(n_in), np.int64),
        *grids_of(1.0),
    )
    dense = Dense(n_out, n_in)
    add(Held(d), 1.0, sums)  # loads the kernels

    def show(name: str, ours: Step, theirs: Step, flops: int) -> None:
        taken, plain = fastest(ours), fastest(theirs)
        print(
            f"{n_out}x{n_in} {name}: {taken:.3f} s, dense {plain / taken:.2f} times as long, "
            f"{flops / taken / 1e9:.0f} Gflop/s"
        )

    show("add", lambda: add(Held(d), 1.0, sums), lambda: dense.add(d), add_flops(n_out, n_in))
    flops = solve_flops(n_out, n_in, RIDGE)
    show("solve", lambda: [r.start for r in solve(sums, RIDGE)], dense.solve, flops)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for shape in SHAPES:
        compare(*shape)


main()
