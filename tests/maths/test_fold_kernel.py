"""The fold, bit for bit what plain numpy computes step by step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import copysign, inf, nan, nextafter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stored_numbers import (
    FRACTION,
    LOWEST,
    STORED,
    any_bits,
    bits_of,
    edges,
    infinity,
    largest,
    rounded,
    values,
    weight_bits,
)

from mdm_kit.maths.fold import fold

SIZES = (1, 2047, 2048, 2049, 70_001)
GUARD = 0x5A
GUARD_NBYTES = 64

Bits = NDArray[np.unsignedinteger]


@dataclass
class Folded:
    """What a fold said and wrote."""

    finite: bool
    bits: Bits


def folded(
    inputs: Sequence[tuple[str, Bits]],
    weights: Sequence[float],
    out_dtype: str,
    *,
    base: bool = False,
    wide: bool = False,
) -> Folded:
    """Fold arrays of stored numbers; nothing but the n results may be written."""
    n = len(inputs[0][1])
    kept = [bits.tobytes() for _, bits in inputs]
    out = np.full(n * STORED[out_dtype]().itemsize + GUARD_NBYTES, GUARD, np.uint8)
    finite = fold(
        [bits.ctypes.data for _, bits in inputs],
        [dtype for dtype, _ in inputs],
        weights,
        base=base,
        wide=wide,
        n=n,
        out=out.ctypes.data,
        out_dtype=out_dtype,
    )
    assert bool((out[-GUARD_NBYTES:] == GUARD).all())
    assert [bits.tobytes() for _, bits in inputs] == kept
    return Folded(finite, out[:-GUARD_NBYTES].view(STORED[out_dtype]))


def expected(
    inputs: Sequence[tuple[str, Bits]],
    weights: Sequence[float],
    out_dtype: str,
    *,
    base: bool,
    wide: bool,
) -> NDArray[np.float64]:
    """The same in numpy, a step at a time; not finite where the dtype has no such number."""
    kind = np.float64 if wide else np.float32
    with np.errstate(all="ignore"):
        x = [values(bits, dtype).astype(kind) for dtype, bits in inputs]
        start, models = (x[0], x[1:]) if base else (None, x)
        total: NDArray[np.floating] | None = None
        for model, weight in zip(models, weights, strict=True):
            term = (model if start is None else model - start) * kind(weight)
            total = term if total is None else total + term
        assert total is not None
        result = total if start is None else start + total
        return rounded(result.astype(np.float64), out_dtype)


def check(
    inputs: Sequence[tuple[str, Bits]],
    weights: Sequence[float],
    out_dtype: str,
    *,
    base: bool,
    wide: bool,
) -> bool:
    """Compare all finite numbers and the verdict; return the verdict."""
    got = folded(inputs, weights, out_dtype, base=base, wide=wide)
    want = expected(inputs, weights, out_dtype, base=base, wide=wide)
    fine = np.isfinite(want)
    np.testing.assert_array_equal(got.bits[fine], bits_of(want[fine], out_dtype))
    assert got.finite == bool(fine.all())
    return got.finite


def out_dtypes(*, wide: bool) -> list[str]:
    """float64 results need float64 arithmetic; the planner never asks otherwise."""
    return [dtype for dtype in STORED if wide or dtype != "F64"]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("dtype", STORED)
def test_any_numbers_of_every_dtype(dtype: str, base: bool, wide: bool) -> None:
    """Random bits: denormals, signed zeros, the largest numbers and all between."""
    rng = np.random.default_rng(1)
    for out_dtype, n in product(out_dtypes(wide=wide), SIZES):
        inputs = [(dtype, any_bits(rng, dtype, n)) for _ in range(2 + base)]
        check(inputs, [0.75, -0.4], out_dtype, base=base, wide=wide)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("n_models", range(1, 11))
def test_one_to_ten_models_of_mixed_dtypes(n_models: int, base: bool, wide: bool) -> None:
    """In the range of real weights, so that every sum matters and every result is finite."""
    rng = np.random.default_rng(n_models)
    weights = (rng.standard_normal(n_models) / n_models).tolist()
    for out_dtype, n in product(out_dtypes(wide=wide), (1, 2049, 9001)):
        dtypes = rng.choice(list(STORED), n_models + base).tolist()
        inputs = [(dtype, weight_bits(rng, dtype, n)) for dtype in dtypes]
        assert check(inputs, weights, out_dtype, base=base, wide=wide)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_sizes_around_a_row(n: int, wide: bool) -> None:
    rng = np.random.default_rng(n)
    for dtype, out_dtype, base in product(STORED, out_dtypes(wide=wide), (False, True)):
        inputs = [(dtype, weight_bits(rng, dtype, n)) for _ in range(3)]
        weights = [0.5, 0.25, -0.125][base:]
        assert check(inputs, weights, out_dtype, base=base, wide=wide)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_16_bit_number_keeps_its_bits(dtype: str, wide: bool) -> None:
    """Widened, weighted by one and rounded, a number is itself, the sign of zero included."""
    bits = np.arange(1 << 16).astype(np.uint16)
    bits = bits[(bits & 0x7FFF) < infinity(dtype)]
    got = folded([(dtype, bits)], [1.0], dtype, wide=wide)
    assert got.finite
    np.testing.assert_array_equal(got.bits, bits)
    widened = folded([(dtype, bits)], [1.0], "F32", wide=wide)
    np.testing.assert_array_equal(values(widened.bits, "F32"), values(bits, dtype))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("out_dtype", ["BF16", "F16"])
def test_every_middle_of_16_bit_neighbours(out_dtype: str, wide: bool) -> None:
    """A tie goes to the even neighbour, anything a hair beside it to the nearer one."""
    bits = np.arange(infinity(out_dtype) - 1).astype(np.uint16)
    lower, upper = values(bits, out_dtype), values(bits + np.uint16(1), out_dtype)
    middle = (lower + upper) / 2
    given_dtype, kind = ("F64", np.float64) if wide else ("F32", np.float32)
    exact = middle.astype(kind)
    x = np.concatenate([exact, np.nextafter(exact, kind(0)), np.nextafter(exact, kind(inf))])
    x = np.concatenate([x, -x]).astype(np.float64)
    assert check([(given_dtype, bits_of(x, given_dtype))], [1.0], out_dtype, base=False, wide=wide)
    ties = [(given_dtype, bits_of(middle, given_dtype))]
    assert not (folded(ties, [1.0], out_dtype, wide=wide).bits & 1).any()


def test_every_middle_of_float32_neighbours_in_float64() -> None:
    rng = np.random.default_rng(3)
    bits = np.concatenate([any_bits(rng, "F32", 20_000), edges("F32")]) & 0x7FFFFFFF
    bits = bits[bits < infinity("F32") - 1]
    middle = (values(bits, "F32") + values(bits + np.uint32(1), "F32")) / 2
    x = np.concatenate([middle, np.nextafter(middle, 0), np.nextafter(middle, inf)])
    x = np.concatenate([x, -x])
    assert check([("F64", bits_of(x, "F64"))], [1.0], "F32", base=False, wide=True)


def nearest_even(x: float, dtype: str) -> float:
    """`x` in exact rational arithmetic; a zero keeps the sign of what was rounded away."""
    _, exponent = np.frexp(x)
    unit = Fraction(2) ** (max(int(exponent) - 1, LOWEST[dtype]) - FRACTION[dtype])
    near = round(Fraction(x) / unit) * unit
    return copysign(inf if abs(near) > largest(dtype) else float(abs(near)), x)


def hairs(dtype: str) -> st.SearchStrategy[float]:
    """Doubles near a 16-bit number or a middle, where rounding twice goes wrong."""

    def beside(bits: int, halves: float, steps: int, sign: float) -> float:
        near = values(np.array([bits, bits + 1], np.uint16), dtype)
        x = float(near[0] + (near[1] - near[0]) * halves)
        for _ in range(abs(steps)):
            x = nextafter(x, copysign(inf, steps))
        return x * sign

    return st.builds(
        beside,
        st.integers(0, infinity(dtype) - 2),
        st.sampled_from([0.0, 0.25, 0.5, 0.75]),
        st.integers(-3, 3),
        st.sampled_from([1.0, -1.0]),
    )


@pytest.mark.parametrize("out_dtype", ["BF16", "F16", "F32"])
@settings(deadline=None)
@given(data=st.data())
def test_float64_is_rounded_once(out_dtype: str, data: st.DataObject) -> None:
    """Against fractions, so that neither numpy nor torch has to be right."""
    near = hairs("F16" if out_dtype == "F32" else out_dtype)
    anything = st.floats(allow_nan=False, allow_infinity=False)
    xs = data.draw(st.lists(st.one_of(near, anything), min_size=1, max_size=30))
    got = folded([("F64", np.array(xs).view(np.uint64))], [1.0], out_dtype, wide=True)
    want = np.array([nearest_even(x, out_dtype) for x in xs])
    fine = np.isfinite(want)
    np.testing.assert_array_equal(got.bits[fine], bits_of(want[fine], out_dtype))
    assert got.finite == bool(fine.all())


def below(x: float, kind: type[np.floating]) -> float:
    return float(np.nextafter(kind(x), kind(0)))


MIDDLE = {"F16": 65_520.0, "BF16": 2.0**128 - 2.0**119, "F32": 2.0**128 - 2.0**103}
"""Where a dtype ends: the middle between its largest number and the next power of two."""


@pytest.mark.parametrize(
    ("out_dtype", "wide", "least_bad"),
    [
        ("F16", False, MIDDLE["F16"]),
        ("BF16", False, MIDDLE["BF16"]),
        ("F32", False, inf),
        ("F16", True, MIDDLE["F16"]),
        ("BF16", True, MIDDLE["BF16"]),
        ("F32", True, MIDDLE["F32"]),
        ("F64", True, inf),
    ],
)
def test_where_a_dtype_ends(out_dtype: str, wide: bool, least_bad: float) -> None:
    """One number at the limit is noticed wherever it stands; one just below it is the largest."""
    given_dtype, kind = ("F64", np.float64) if wide else ("F32", np.float32)
    n = 4099
    for place, sign in product((0, 1, 2047, 2048, n - 1), (1.0, -1.0)):
        x = np.ones(n)
        x[place] = sign * below(least_bad, kind)
        got = folded([(given_dtype, bits_of(x, given_dtype))], [1.0], out_dtype, wide=wide)
        assert got.finite
        assert values(got.bits, out_dtype)[place] == sign * largest(out_dtype)
        x[place] = sign * least_bad
        got = folded([(given_dtype, bits_of(x, given_dtype))], [1.0], out_dtype, wide=wide)
        assert not got.finite


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", STORED)
def test_infinity_and_every_nan_are_noticed(dtype: str, wide: bool, base: bool) -> None:
    """Quiet and signalling, with one bit or all bits set, of either sign, in any input."""
    sign = 1 << (STORED[dtype]().itemsize * 8 - 1)
    top = infinity(dtype)
    bad = [top, top | 1, top | 1 << (FRACTION[dtype] - 1), sign - 1]
    for out_dtype, bits, place in product(
        out_dtypes(wide=wide), [*bad, *(b | sign for b in bad)], range(2)
    ):
        inputs = [(dtype, bits_of(np.ones(2050), dtype)) for _ in range(2)]
        inputs[place][1][2049] = bits
        assert not folded(inputs, [1.0] * (2 - base), out_dtype, base=base, wide=wide).finite


@pytest.mark.parametrize("weight", [nan, inf, -inf, 1e39])
def test_weight_that_float32_does_not_have(weight: float) -> None:
    x = bits_of(np.ones(5), "F32")
    assert not folded([("F32", x)], [weight], "F32").finite


def test_sum_that_overflows_halfway_is_noticed() -> None:
    x = bits_of(np.full(3, largest("F32")), "F32")
    assert not folded([("F32", x), ("F32", x)], [1.0, 1.0], "F32").finite
    assert not folded([("F32", x)] * 3, [1.0, 1.0, -1.0], "F32").finite
    assert folded([("F32", x)] * 3, [1.0, 1.0, -1.0], "F32", wide=True).finite


def test_order_of_the_models_is_the_order_of_the_sum() -> None:
    large, one = (bits_of(np.array([x]), "F32") for x in (2.0**24, 1.0))
    inputs = [("F32", large), ("F32", one), ("F32", one)]
    assert values(folded(inputs, [1.0] * 3, "F32").bits, "F32") == 2.0**24
    assert values(folded(inputs[::-1], [1.0] * 3, "F32").bits, "F32") == 2.0**24 + 2


def test_product_is_rounded_before_it_is_added() -> None:
    """A fused multiply-add would keep the product's last bits, on some processors only."""
    x = 1 + 2.0**-12
    inputs = [("F32", bits_of(np.full(64, v), "F32")) for v in (-1.0, x)]
    got = values(folded(inputs, [1.0, x], "F32").bits, "F32")
    assert (got == 2.0**-11).all()  # x² - 1 is 2^-11 + 2^-24


def test_threads_do_not_share_scratch_memory() -> None:
    rng = np.random.default_rng(5)
    inputs = [("BF16", weight_bits(rng, "BF16", 70_001)) for _ in range(4)]
    weights = [[w, 0.5, -0.25] for w in np.linspace(0, 1, 32).tolist()]
    alone = [folded(inputs, w, "F16", base=True, wide=True).bits.tobytes() for w in weights]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda w: folded(inputs, w, "F16", base=True, wide=True), weights)
        assert [got.bits.tobytes() for got in together] == alone


def test_nothing_to_fold_is_finite() -> None:
    assert folded([("F32", np.empty(0, np.uint32))], [1.0], "F16").finite
