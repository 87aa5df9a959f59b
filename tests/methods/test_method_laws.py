"""Laws every merge method keeps, tried on all of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from merging import merged
from torch import Tensor

from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.methods.registry import methods
from mdm_kit.run.torch_kernels import TorchKernels

SHAPES = [(), (1,), (7,), (0,), (0, 3), (1, 9), (5, 4), (2, 3, 4)]

pytestmark = pytest.mark.parametrize("method", methods().values(), ids=methods())


def n_models(method: Method) -> int:
    return min(3, method.max_models or 3)


FULL = {"slerp": 1.0, "nearswap": 1e6}
"""The shared parameter at which all of a model is taken."""


def params(
    method: Method, k: int, weights: list[float] | None = None, *, full: bool = False
) -> MethodParams:
    """Every parameter at its default; required per-model numbers at `weights`."""
    weights = weights or [0.3, 0.5, 0.9][:k]
    values = {}
    for spec in method.params.specs():
        if spec.per_model:
            weighted = spec.required or spec.name == "weight"
            values[spec.field] = tuple(weights) if weighted else (spec.default,) * k
        elif spec.required:
            values[spec.field] = FULL[method.name] if full else 0.5
    return method.params(**values)


def inputs(k: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(k + len(shape))
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(k)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_keeps_shape_and_dtype_and_leaves_its_inputs_alone(
    method: Method, shape: tuple[int, ...]
) -> None:
    k = n_models(method)
    given = inputs(k, shape)
    before = [t.clone() for t in given]
    result = merged(method, params(method, k), given)
    assert result.shape == shape
    assert result.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_same_bits_on_repeat(method: Method) -> None:
    k = n_models(method)
    first = merged(method, params(method, k), inputs(k, (33, 5)))
    again = merged(method, params(method, k), inputs(k, (33, 5)))
    assert torch.equal(first, again)


def test_no_change_gives_the_base(method: Method) -> None:
    if not method.needs_base:
        pytest.skip("the method has no base")
    (base,) = inputs(1, (6, 2))
    k = n_models(method)
    assert torch.equal(merged(method, params(method, k), [base] * k, base), base)


def test_zeros_give_zeros(method: Method) -> None:
    k = n_models(method)
    assert torch.equal(
        merged(method, params(method, k), [torch.zeros(6, 2)] * k), torch.zeros(6, 2)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_model_at_full_weight_gives_itself(method: Method, dtype: torch.dtype) -> None:
    if method.min_models > 1 or method.name in ("arcee_fusion", "iso_c", "iso_cts"):
        pytest.skip("it takes two, or changes the change of one by definition")
    (x,) = inputs(1, (8, 3), dtype)
    found = merged(method, params(method, 1, [1.0], full=True), [x])
    if method.matrix_rule:  # a sum is rounded, to float32 or to a grid, and so are singular values
        assert torch.allclose(found, x, rtol=2**-23, atol=1e-12)
    else:
        assert torch.equal(found, x)


def test_permuting_the_models_changes_rounding_alone_exactly_where_promised(method: Method) -> None:
    k = n_models(method)
    given, weights = inputs(k, (50, 4), torch.float64), [0.3, 0.5, 0.9][:k]
    if k > 1:
        given[0][0] *= 8
        given[1][0] = -given[0][0]  # the largest changes, and equal but for their signs
    plain = merged(method, params(method, k, weights), given)
    turned = merged(method, params(method, k, weights[::-1]), given[::-1])
    assert torch.allclose(plain, turned, rtol=1e-12, atol=1e-14) == method.order_free


def test_float32_agrees_with_float64(method: Method) -> None:
    k = n_models(method)
    fine = merged(method, params(method, k), inputs(k, (64, 9), torch.float64))
    coarse = merged(method, params(method, k), inputs(k, (64, 9)))
    size = max(1.0, float(fine.abs().max()))  # a small element may be a sum of large ones
    assert torch.allclose(coarse.double(), fine, rtol=1e-5, atol=1e-6 * size)


def test_torch_and_numba_give_the_same_bits(method: Method) -> None:
    """On the CPU; where a Gram matrix decides, its sums run in another order."""
    k = n_models(method)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        given = inputs(k, (300, 70), dtype)
        ours = merged(method, params(method, k), given)
        torchs = merged(method, params(method, k), given, kernels=TorchKernels(torch.device("cpu")))
        if method.solve is None:
            assert torch.equal(ours, torchs)
        else:
            assert torch.allclose(ours.double(), torchs.double(), rtol=2**-7, atol=1e-6)


def test_says_what_it_is(method: Method) -> None:
    assert method.title.endswith(".")
    assert "Where not to use:" in method.doc
    assert all(spec.help for spec in method.params.specs())
    assert dataclasses.is_dataclass(method.params)
