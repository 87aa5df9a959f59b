"""covmerge on one map: both sides, and what it minimises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from merging import merged
from reference.covmerge import covmerge as dense
from torch import Tensor

from mdm_kit.methods.covmerge import Params, covmerge


def params(**values: object) -> Params:
    return Params(weight=(1.0, 0.5, 2.0), **values)  # type: ignore[arg-type]


def family(shape: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=generator, dtype=torch.float64) * 0.05
    changes = torch.randn((3, *shape), generator=generator, dtype=torch.float64) * 0.01
    return base, [base + c for c in changes]


@pytest.mark.parametrize("shape", [(12, 12), (30, 7), (5, 40), (1, 9), (9, 1)])
def test_the_outputs_side_is_the_inputs_side_of_the_transposed_map(shape: tuple[int, ...]) -> None:
    base, models = family(shape)
    by_output = merged(covmerge, params(side="output"), models, base)
    turned = [m.T.contiguous() for m in models]
    by_input = merged(covmerge, params(), turned, base.T.contiguous())
    assert torch.allclose(by_output, by_input.T, rtol=1e-12, atol=1e-15)
    changes = [np.asarray((m - base).T) for m in models]
    wanted = base + torch.from_numpy(dense(changes, (1.0, 0.5, 2.0), 1.0).T)
    assert torch.allclose(by_output, wanted, rtol=1e-8, atol=1e-12)


def test_a_vocabulary_keeps_the_inputs_side() -> None:
    from mdm_kit.maths.matrix import Matrix

    head, layer = Matrix.plain(50_000, 8), Matrix.plain(32_768, 8)
    rule = covmerge.matrix_rule
    assert rule is not None
    assert rule(params(side="output"), (head, layer)).matrices == (head, layer.transposed)
