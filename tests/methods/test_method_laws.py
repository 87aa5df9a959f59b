"""Laws every merge method keeps, tried on all of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.methods.registry import methods

SHAPES = [(), (1,), (7,), (0,), (0, 3), (1, 9), (5, 4), (2, 3, 4)]

pytestmark = pytest.mark.parametrize("method", methods().values(), ids=methods())


def n_models(method: Method) -> int:
    return min(3, method.max_models or 3)


def params(method: Method, k: int, weights: list[float] | None = None) -> MethodParams:
    """Every parameter at its default; required per-model numbers at `weights`."""
    weights = weights or [0.3, 0.5, 0.9][:k]
    values = {}
    for spec in method.params.specs():
        if spec.per_model:
            values[spec.field] = tuple(weights) if spec.required else (spec.default,) * k
        elif spec.required:
            values[spec.field] = 0.5
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
    merged = method.kernel(given, params(method, k))
    assert merged.shape == shape
    assert merged.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_same_bits_on_repeat(method: Method) -> None:
    k = n_models(method)
    first = method.kernel(inputs(k, (33, 5)), params(method, k))
    again = method.kernel(inputs(k, (33, 5)), params(method, k))
    assert torch.equal(first, again)


def test_zero_in_gives_zero_out(method: Method) -> None:
    k = n_models(method)
    merged = method.kernel([torch.zeros(6, 2)] * k, params(method, k))
    assert torch.equal(merged, torch.zeros(6, 2))


def test_one_model_at_full_weight_gives_itself(method: Method) -> None:
    (x,) = inputs(1, (8, 3))
    assert torch.equal(method.kernel([x], params(method, 1, [1.0])), x)


def test_equal_models_that_share_the_weight_give_themselves(method: Method) -> None:
    k = n_models(method)
    (x,) = inputs(1, (8, 3), torch.float64)
    weights = [0.25, 0.25, 0.5] if k == 3 else [1.0]
    assert torch.allclose(method.kernel([x] * k, params(method, k, weights)), x, rtol=1e-15)


def test_permuting_the_models_changes_rounding_alone_exactly_where_promised(method: Method) -> None:
    k = n_models(method)
    given, weights = inputs(k, (50, 4), torch.float64), [0.3, 0.5, 0.9][:k]
    merged = method.kernel(given, params(method, k, weights))
    turned = method.kernel(given[::-1], params(method, k, weights[::-1]))
    assert torch.allclose(merged, turned, rtol=1e-12, atol=1e-14) == method.order_free


def test_a_tile_of_an_elementwise_method_is_a_tile_of_the_whole(method: Method) -> None:
    if method.tiles != "elementwise":
        pytest.skip("the method sees whole tensors")
    k = n_models(method)
    given = inputs(k, (1000,))
    whole = method.kernel(given, params(method, k))
    tiled = [
        method.kernel([t[a : a + 333] for t in given], params(method, k)) for a in (0, 333, 666)
    ]
    assert torch.equal(whole[:999], torch.cat(tiled))


def test_float32_agrees_with_float64(method: Method) -> None:
    k = n_models(method)
    fine = method.kernel(inputs(k, (64, 9), torch.float64), params(method, k))
    coarse = method.kernel(inputs(k, (64, 9)), params(method, k))
    assert torch.allclose(coarse.double(), fine, rtol=1e-5, atol=1e-6)


def test_says_what_it_is(method: Method) -> None:
    assert method.title.endswith(".")
    assert "Where not to use:" in method.doc
    assert all(spec.help for spec in method.params.specs())
    assert dataclasses.is_dataclass(method.params)
