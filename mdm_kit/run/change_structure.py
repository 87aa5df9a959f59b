"""The directions of one linear map's change, and whether rounding explains all but a few."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.range_finder import numbers_of, of_rank
from mdm_kit.maths.spectrum import squared_norm
from mdm_kit.run.inspected import MapStructure

MOST = 128
"""Directions looked at: twice the largest rank that is reported."""
_DIGITS = {"BF16": 8, "F16": 11, "F32": 24, "F64": 24}
"""Binary digits of a number; changes are formed in float32, whatever the dtype."""
_EDGE = 1.2
"""Singular values above this many times the edge of a random matrix's are no rounding."""
_LEAST = 1e-5
"""Singular values below this share of the largest are rounding of the products."""


def structure_of(name: str, base: Tensor, model: Tensor, dtype: str) -> MapStructure:
    """Return how the change model - base (m, n), float32 or float64, lies in its directions.

    `dtype` is what the model is stored in. A random matrix of noise s has singular values up to
    s (√m + √n) (Marchenko and Pastur 1967); rounding is s = ulp / √12, in the mean square. The
    change is of low rank if what is over is no more than that.
    """
    change = (model - base).float()
    rows, columns = change.shape
    side = min(rows, columns)
    found = of_rank(change, min(MOST, side), numbers_of(0, name))
    values = found.left.double().square().sum(0)  # σ is halved among the factors
    squares = values.square()
    total = squared_norm(change)
    noise = _noise(model, dtype)
    largest = float(values[0]) if len(values) else 0.0
    edge = max(_EDGE * noise * (math.sqrt(rows) + math.sqrt(columns)), _LEAST * largest)
    rank = int((values > edge).sum())
    over = total - float(squares[:rank].sum())
    explained = over <= 1.5 * noise**2 * rows * columns + 1e-6 * total
    low = explained and over <= 0.5 * total and 0 < rank <= side // 4
    reached = (squares.cumsum(0) >= 0.9 * total).nonzero()
    return MapStructure(
        tensor=name,
        shape=(rows, columns),
        top_16=min(1.0, float(squares[:16].sum()) / total) if total else 0.0,
        top_64=min(1.0, float(squares[:64].sum()) / total) if total else 0.0,
        rank_90=int(reached[0]) + 1 if len(reached) else None,
        rank_above_noise=rank if low else None,
    )


def _noise(model: Tensor, dtype: str) -> float:
    """Return the root mean square of the rounding error of numbers stored in `dtype`."""
    squares = []
    for part in torch.split(model, max(1, BLOCK // model.shape[1])):
        exponents = torch.frexp(part)[1]
        ulps = torch.ldexp(torch.ones_like(part, dtype=torch.float64), exponents - _DIGITS[dtype])
        squares.append(float(ulps.square().sum()))
    return math.sqrt(math.fsum(squares) / max(1, model.numel()) / 12)
