"""Families, parameters and comparisons for methods that have a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from merging import merged
from reference.dense import assert_accurate
from torch import Tensor

from mdm_kit.methods.contract import MethodParams
from mdm_kit.methods.registry import methods

SHAPES = [(), (1,), (40,), (9, 17), (3, 5, 7), (2, 3, 4, 5), (1, 50), (50, 1)]
WEIGHTS = (0.25, 0.5, -0.125)
"""Powers of two: no rounding decides an election that ends in a draw."""
BIG = (300, 701)  # more than three blocks
TILE = 65_536


def family(
    shape: tuple[int, ...], k: int, dtype: torch.dtype = torch.float32, size: float = 0.02
) -> tuple[Tensor, list[Tensor]]:
    """A base and k models near it; for bfloat16 many changes are zero or equal."""
    g = torch.Generator().manual_seed(17 * k + len(shape))
    base = torch.randn(shape, generator=g, dtype=torch.float64)
    steps = [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(k)]
    return base.to(dtype), [(base + size * s).to(dtype) for s in steps]


def given(name: str, k: int, **values: Any) -> MethodParams:
    """Parameters by their names in a recipe; what is not said has its default."""
    found = {}
    for spec in methods()[name].params.specs():
        value = values.pop(spec.name, spec.default)
        if spec.per_model and not isinstance(value, tuple):
            value = (value,) * k
        found[spec.field] = value
    assert not values, values
    return methods()[name].params(**found)


def both(
    name: str,
    want: Callable[[Tensor, list[Tensor]], Tensor],
    shape: tuple[int, ...],
    k: int,
    dtype: torch.dtype,
    size: float = 0.02,
    *,
    with_base: bool = True,
    **values: Any,
) -> None:
    base, models = family(shape, k, dtype, size)
    p = given(name, k, **values)
    got = merged(methods()[name], p, models, base if with_base else None)
    expected = want(base, models)
    start = base if with_base else models[0]
    change = expected - start.double()
    spread = sum((m.double().abs() for m in models), base.double().abs())
    assert_accurate(got, expected, change, spread)
    tiled = merged(methods()[name], p, models, base if with_base else None, tile=TILE)
    assert torch.equal(tiled, got), "tiles change bits"


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
sizes = pytest.mark.parametrize("shape", [*SHAPES, BIG], ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
