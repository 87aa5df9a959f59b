"""What changed between two models, against dense float64 formulas."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from families import ODD, fine_tuned, tensors, write_model
from torch import Tensor

import mdm_kit
from mdm_kit.errors import IntegrityError, SourceError, UsageError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.planner.costs import TILE_ELEMENTS
from mdm_kit.run.compared import Difference, Numbers
from mdm_kit.run.difference import differences
from mdm_kit.run.matching import matching
from mdm_kit.run.progress import Silent
from mdm_kit.sources import MemorySource

FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def compared(a: Mapping[str, Tensor], b: Mapping[str, Tensor], threads: int = 2) -> Difference:
    # Both by the same name: nothing may be told apart by it.
    first, second = MemorySource.from_tensors("m", a), MemorySource.from_tensors("m", b)
    read: list[int] = []
    found = differences(first, second, threads, read.append)
    assert sum(read) == matching(first, second).nbytes
    json.dumps(found.to_json(), allow_nan=False)
    return found


def numbers_of(a: Tensor, b: Tensor) -> Numbers:
    (found,) = compared({"t": a}, {"t": b}).tensors
    assert found.numbers is not None
    return found.numbers


def check_dense(found: Difference, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    for tensor in found.tensors:
        x, y = a[tensor.name].reshape(-1), b[tensor.name].reshape(-1)
        assert tensor.n_changed == int((x.double() != y.double()).sum())
        if not (x.is_floating_point() and y.is_floating_point()):
            assert tensor.numbers is None
            continue
        assert tensor.numbers is not None
        x, y = x.double(), y.double()
        d, products = y - x, tensor.numbers.products
        close = {"rel": 1e-13, "abs": 0.0}
        assert products.norm_a == pytest.approx(x.norm().item(), **close)
        assert products.norm_b == pytest.approx(y.norm().item(), **close)
        assert products.norm_difference == pytest.approx(d.norm().item(), **close)
        if not x.numel():
            assert (products.relative_norm, products.cosine) == (0.0, None)
            assert (tensor.numbers.largest, tensor.numbers.largest_at) == (0.0, None)
            continue
        assert products.relative_norm == pytest.approx((d.norm() / x.norm()).item(), **close)
        cosine = (x @ y / x.norm() / y.norm()).item()
        assert products.cosine == pytest.approx(cosine, rel=0, abs=1e-14)
        assert tensor.numbers.largest == d.abs().max().item()
        if tensor.numbers.largest:
            assert tensor.numbers.largest_at == int((d.abs() == d.abs().max()).nonzero()[0])


def test_odd_shapes_and_dtypes_against_dense_formulas() -> None:
    base = tensors(ODD, 0)
    moved = fine_tuned(base, 1)
    found = compared(base, moved)
    assert [t.name for t in found.tensors] == list(base)
    check_dense(found, base, moved)
    assert not found.identical
    assert found.same_tensors


@pytest.mark.parametrize("one", FLOATS)
@pytest.mark.parametrize("other", FLOATS)
def test_two_dtypes_are_compared_by_value(one: torch.dtype, other: torch.dtype) -> None:
    base = {"t": torch.randn(3, 700, dtype=torch.float64)}
    a = {"t": base["t"].to(one)}
    b = {"t": (base["t"] + 0.01 * (base["t"] > 0)).to(other)}
    found = compared(a, b)
    check_dense(found, a, b)
    assert len(found.retyped) == (one is not other)
    assert not found.incomparable


def test_values_kept_in_a_wider_dtype_have_not_changed() -> None:
    a = torch.randn(1000).to(torch.bfloat16)
    a[:3] = torch.tensor([math.nan, math.inf, -0.0])
    found = compared({"t": a}, {"t": a.float()})
    assert found.total.n_changed == 0
    assert not found.identical
    assert (found.total.products.relative_norm, found.total.products.cosine) == (0.0, 1.0)


def test_bits_count_where_the_dtype_is_the_same() -> None:
    found = compared({"t": torch.tensor([0.0, 1.0])}, {"t": torch.tensor([-0.0, 1.0])})
    assert found.total.n_changed == 1
    assert found.total.products.dd == 0.0
    assert not found.identical


def test_the_same_bits_everywhere_are_identical() -> None:
    base = tensors(ODD, 3) | {"nan": torch.tensor([math.nan, 1.0])}
    found = compared(base, {name: t.clone() for name, t in base.items()})
    assert found.identical
    assert found.total.changed_share == 0.0
    assert found.total.products.relative_norm == 0.0
    assert found.total.products.cosine == 1.0


def test_long_tensors_cross_blocks_and_tiles() -> None:
    n = TILE_ELEMENTS + BLOCK + 7
    a = torch.randn(n, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    b = a.clone()
    b[[5, BLOCK + 3, TILE_ELEMENTS + 1, n - 1]] += torch.tensor([1, 8, 8, 2]).bfloat16() * 64
    found = compared({"t": a}, {"t": b})
    check_dense(found, {"t": a}, {"t": b})
    assert found.total.n_changed == 4
    assert compared({"t": a}, {"t": b}, threads=1) == found


def test_sums_are_of_fixed_blocks_joined_left_to_right() -> None:
    a = torch.randn(3 * BLOCK + 11, dtype=torch.float64)
    got = numbers_of(a, torch.zeros_like(a)).products
    total = 0.0
    for start in range(0, len(a), BLOCK):
        block = a[start : start + BLOCK].numpy()
        total += float(np.einsum("i,i->", block, block))
    assert (got.aa, got.dd) == (total, total)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_are_counted_and_left_out(dtype: torch.dtype) -> None:
    a, b = torch.ones(10, dtype=dtype), torch.full((10,), 2.0, dtype=dtype)
    a[0], a[1], a[2], b[2], b[3] = math.nan, math.inf, -math.inf, math.nan, math.inf
    found = numbers_of(a, b)
    assert (found.lost_a, found.lost_b, found.n_lost) == (3, 2, 5)
    assert (found.products.aa, found.products.bb, found.products.dd) == (6.0, 24.0, 6.0)
    assert (found.largest, found.largest_at) == (1.0, 4)


def test_nothing_finite_at_all() -> None:
    a = torch.full((4,), math.nan)
    found = numbers_of(a, torch.zeros(4))
    assert (found.products.relative_norm, found.products.cosine) == (0.0, None)
    assert (found.lost_a, found.largest_at) == (4, None)


def test_zeros() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert numbers_of(zero, zero).products.relative_norm == 0.0
    assert numbers_of(zero, one).products.relative_norm == math.inf
    assert numbers_of(one, zero).products.relative_norm == 1.0
    assert numbers_of(zero, one).products.cosine is None
    assert numbers_of(one, -one).products.cosine == pytest.approx(-1.0, abs=1e-15)


def test_squares_beyond_float64_are_said_to_be_unknown() -> None:
    a = torch.tensor([1e300, -1.7e308, 1.0], dtype=torch.float64)
    found = compared({"t": a, "u": a}, {"t": -a, "u": -a})
    for products in (found.total.products, found.tensors[0].numbers.products):  # type: ignore[union-attr]
        assert products.norm_a == math.inf
        assert (products.relative_norm, products.cosine) == (None, None)
    assert found.total.n_changed == 6
    assert found.tensors[0].numbers.n_lost == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("a", "b", "n_changed"),
    [
        (torch.tensor([1, 2, 3]), torch.tensor([1, 5, 3], dtype=torch.int32), 1),
        (torch.tensor([2**63 - 1, -1]), torch.tensor([2**63, 2**64 - 1], dtype=torch.uint64), 2),
        (torch.tensor([True, False]), torch.tensor([1, 1], dtype=torch.uint8), 1),
        (torch.tensor([3], dtype=torch.uint8), torch.tensor([3], dtype=torch.int64), 0),
        (torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), None),
        (torch.tensor([1j, 2.0]), torch.tensor([1j, 3.0]), 1),
        (torch.tensor([1.0, 2]).to(torch.float8_e5m2), torch.ones(2).to(torch.float8_e5m2), 1),
        (torch.ones(2).to(torch.float8_e5m2), torch.ones(2).to(torch.float8_e4m3fn), None),
    ],
)
def test_other_types_have_a_changed_share_only(a: Tensor, b: Tensor, n_changed: int | None) -> None:
    found = compared({"t": a}, {"t": b})
    assert found.tensors[0].n_changed == n_changed
    assert found.tensors[0].numbers is None
    assert len(found.incomparable) == (n_changed is None)
    assert not found.identical


@pytest.mark.parametrize(("dtype", "shape"), [("F4", (8,)), ("F6_E2M3", (8,))])
def test_packed_elements_are_told_apart(dtype: str, shape: tuple[int, ...]) -> None:
    nbytes = 4 if dtype == "F4" else 6
    a = MemorySource("a", {"t": (dtype, shape, bytes(nbytes))})
    # Element 0 and, across a byte's edge or not, one more.
    b = MemorySource("b", {"t": (dtype, shape, b"\x81" + bytes(nbytes - 1))})
    assert differences(a, b, 1, lambda _: None).tensors[0].n_changed == 2


def test_what_has_no_counterpart_is_listed() -> None:
    found = compared(
        {"same": torch.ones(2), "shape": torch.ones(2, 3), "a": torch.ones(1)},
        {"b": torch.ones(4, dtype=torch.int64), "shape": torch.ones(3, 2), "same": torch.ones(2)},
    )
    assert [t.name for t in found.only_a] == ["a"]
    assert [t.name for t in found.only_b] == ["b"]
    assert [(p.a.shape, p.b.shape) for p in found.reshaped] == [((2, 3), (3, 2))]
    assert found.total.n_tensors == 1
    assert found.total.n_changed == 0
    assert not found.identical
    document = found.to_json()
    assert document["only_b"] == {"b": {"shape": [4], "dtype": "I64"}}
    assert document["other_shape"]["shape"]["b"] == {"shape": [3, 2], "dtype": "F32"}


def test_models_with_nothing_in_common_are_no_error() -> None:
    found = compared({"a": torch.ones(1)}, {"b": torch.ones(1)})
    assert found.tensors == ()
    assert found.total.changed_share == 0.0


def test_totals_by_layer_and_kind() -> None:
    names = [f"model.layers.{i}.{kind}.weight" for i in (10, 9, 0) for kind in ("q", "norm")]
    a = {name: torch.ones(4) for name in [*names, "model.embed_tokens.weight"]}
    b = {name: t * (2.0 if ".9." in name else 1.0) for name, t in a.items()}
    found = compared(a, b)
    layers = found.by("layer")
    assert list(layers) == ["model.embed_tokens.weight",
                            "model.layers.0", "model.layers.9", "model.layers.10"]  # fmt: skip
    assert [t.changed_share for t in layers.values()] == [0.0, 0.0, 1.0, 0.0]
    assert layers["model.layers.9"].products.relative_norm == 1.0
    kinds = found.by("kind")
    assert set(kinds) == {"model.embed_tokens.weight",
                          "model.layers.*.q.weight", "model.layers.*.norm.weight"}  # fmt: skip
    assert kinds["model.layers.*.q.weight"].n_elements == 12
    assert kinds["model.layers.*.q.weight"].n_changed == 4
    assert found.total.products.relative_norm == pytest.approx(math.sqrt(8 / 28))


def test_neither_shards_nor_threads_matter(tmp_path: Path) -> None:
    base = tensors(ODD, 0)
    moved = fine_tuned(base, 1)
    whole, cut = write_model(tmp_path / "a", base), write_model(tmp_path / "c", base, n_shards=3)
    other = write_model(tmp_path / "b", moved, n_shards=2)
    one = mdm_kit.diff(whole, other, threads=1).to_json()
    two = mdm_kit.diff(str(cut), other, threads=3).to_json()
    assert two["tensors"] == one["tensors"]
    assert two["total"] == one["total"]
    assert mdm_kit.diff(whole, cut).identical


def test_folders_win_over_the_signs_in_their_names(tmp_path: Path) -> None:
    odd = write_model(tmp_path / "a@b+c", {"t": torch.ones(2)})
    assert mdm_kit.diff(str(odd), odd).identical


def test_open_sources_stay_open() -> None:
    source = MemorySource.from_tensors("m", {"t": torch.ones(2)})
    assert mdm_kit.diff(source, source).identical
    assert bytes(source.read(source.headers().tensors["t"]))


def test_an_interruption_ends_the_workers_before_the_sources_close(tmp_path: Path) -> None:
    model = {f"t{i}": torch.ones(300_000) for i in range(20)}
    a, b = write_model(tmp_path / "a", model), write_model(tmp_path / "b", model)

    class Interrupted(Silent):
        def advance(self, nbytes: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdm_kit.diff(a, b, threads=2, progress=Interrupted())
    assert not [t for t in threading.enumerate() if t.name.startswith("tile")]


def test_what_cannot_be_had_or_is_corrupt(tmp_path: Path) -> None:
    good = write_model(tmp_path / "good", {"t": torch.ones(2)})
    bad = write_model(tmp_path / "bad", {"t": torch.ones(2)})
    (bad / "model.safetensors").write_bytes((bad / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        mdm_kit.diff(good, bad)
    with pytest.raises(SourceError, match="model 'B'"):
        mdm_kit.diff(good, tmp_path / "absent")
    for wrong in ("", "a@b@c", "https://x/y", "a/b@"):
        with pytest.raises(UsageError, match="model A"):
            mdm_kit.diff(wrong, good)
    with pytest.raises(UsageError, match="threads"):
        mdm_kit.diff(good, good, threads=0)
