"""Values a single method treats in its own way."""

from __future__ import annotations

import pytest
import torch

from mdm_kit.methods.linear import Params as LinearParams
from mdm_kit.methods.linear import linear
from mdm_kit.methods.passthrough import Params as PassParams
from mdm_kit.methods.passthrough import passthrough
from mdm_kit.methods.task_arithmetic import Params as TaskParams
from mdm_kit.methods.task_arithmetic import task_arithmetic

X, Y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -4.0])


def test_linear_divides_by_the_sum_of_the_weights() -> None:
    assert torch.equal(linear.kernel([X, Y], LinearParams(weight=(1.0, 3.0))), (X + 3 * Y) / 4)


def test_linear_without_normalize_is_the_plain_sum() -> None:
    p = LinearParams(weight=(1.0, 3.0), normalize=False)
    assert torch.equal(linear.kernel([X, Y], p), X + 3 * Y)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, -1.0), (0.1, 0.2, -0.1, -0.2)])
def test_linear_refuses_weights_that_sum_to_zero(weights: tuple[float, ...]) -> None:
    assert "sum to zero" in LinearParams(weight=weights).problem()
    assert not LinearParams(weight=weights, normalize=False).problem()


def test_task_arithmetic_takes_weight_and_lambda() -> None:
    p = TaskParams(weight=(0.5, -1.0), lambda_=2.0)
    assert torch.equal(task_arithmetic.kernel([X, Y], p), 2 * (0.5 * X - Y))


def test_task_arithmetic_normalizes_where_it_can() -> None:
    p = TaskParams(weight=(1.0, 3.0), normalize=True)
    assert torch.equal(task_arithmetic.kernel([X, Y], p), (X + 3 * Y) / 4)
    balanced = TaskParams(weight=(1.0, -1.0), normalize=True)
    assert torch.equal(task_arithmetic.kernel([X, Y], balanced), X - Y)


def test_passthrough_scales_only_where_told() -> None:
    assert torch.equal(passthrough.kernel([X], PassParams()), X)
    assert torch.equal(passthrough.kernel([X], PassParams(scale=(-0.5,))), -0.5 * X)
