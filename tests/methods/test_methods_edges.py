"""Values a single method treats in its own way."""

from __future__ import annotations

import pytest

from mdm_kit.methods.consensus import Params as ConsensusParams
from mdm_kit.methods.linear import Params as LinearParams
from mdm_kit.methods.linear import linear
from mdm_kit.methods.passthrough import Params as PassParams
from mdm_kit.methods.passthrough import passthrough
from mdm_kit.methods.task_arithmetic import Params as TaskParams
from mdm_kit.methods.task_arithmetic import task_arithmetic


def test_linear_divides_by_the_sum_of_the_weights() -> None:
    assert linear.coefficients(LinearParams(weight=(1.0, 3.0))) == [0.25, 0.75]


def test_linear_without_normalize_is_the_plain_sum() -> None:
    p = LinearParams(weight=(1.0, 3.0), normalize=False)
    assert linear.coefficients(p) == [1.0, 3.0]


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, -1.0), (0.1, 0.2, -0.1, -0.2)])
def test_linear_refuses_weights_that_sum_to_zero(weights: tuple[float, ...]) -> None:
    assert "sum to zero" in LinearParams(weight=weights).problem()
    assert not LinearParams(weight=weights, normalize=False).problem()


def test_task_arithmetic_takes_weight_and_lambda() -> None:
    p = TaskParams(weight=(0.5, -1.0), lambda_=2.0)
    assert task_arithmetic.coefficients(p) == [1.0, -2.0]


def test_task_arithmetic_normalizes_where_it_can() -> None:
    p = TaskParams(weight=(1.0, 3.0), normalize=True)
    assert task_arithmetic.coefficients(p) == [0.25, 0.75]
    balanced = TaskParams(weight=(1.0, -1.0), normalize=True)
    assert task_arithmetic.coefficients(balanced) == [1.0, -1.0]


def test_passthrough_scales_only_where_told() -> None:
    assert passthrough.coefficients(PassParams()) == [1.0]
    assert passthrough.coefficients(PassParams(scale=(-0.5,))) == [-0.5]


def test_consensus_of_more_models_than_there_are_is_none() -> None:
    assert not ConsensusParams(weight=(1.0, 1.0), agree=2.0).problem()
    assert "there are 2 models" in ConsensusParams(weight=(1.0, 1.0), agree=3.0).problem()
    assert "whole number" in ConsensusParams(weight=(1.0, 1.0), agree=1.5).problem()
