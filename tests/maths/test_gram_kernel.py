"""Inner products against exact sums, and the same bits however the work is cut."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product
from math import fsum

import numpy as np
import pytest
from numpy.typing import NDArray
from stored_numbers import STORED, bits_of, values, weight_bits

from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.gram import gram_blocks

SIZES = (1, 255, 256, 257, 1023, 1024, 1025, 65_535, 65_536, 65_537)
GUARD = -12345.0

Bits = NDArray[np.unsignedinteger]
Input = tuple[str, Bits]


def measured(
    inputs: Sequence[Input],
    *,
    wide: bool = False,
    exact: bool = False,
    known: int = 0,
    start: int = 0,
    n: int | None = None,
) -> NDArray[np.float64]:
    """Return (blocks, pairs) of elements start to start + n; nothing else may be written."""
    n = len(inputs[0][1]) - start if n is None else n
    n_blocks, pairs = -(-n // BLOCK), len(inputs) * (len(inputs) - 1) // 2
    pairs -= known * (known + 1) // 2
    out = np.full(n_blocks * pairs + 8, GUARD)
    gram_blocks(
        [bits.ctypes.data + start * bits.itemsize for _, bits in inputs],
        [dtype for dtype, _ in inputs],
        known=known,
        n=n,
        wide=wide,
        exact=exact,
        out=out.ctypes.data,
    )
    assert bool((out[-8:] == GUARD).all())
    return out[:-8].reshape(n_blocks, pairs)


def deltas(inputs: Sequence[Input], *, wide: bool) -> list[NDArray[np.float64]]:
    """What the products are taken of."""
    kind = np.float64 if wide else np.float32
    base, *models = [values(bits, dtype).astype(kind) for dtype, bits in inputs]
    return [(model - base).astype(np.float64) for model in models]


def pairs_of(vectors: Sequence[NDArray[np.float64]]) -> list[tuple[NDArray[np.float64], ...]]:
    return [(a, b) for i, a in enumerate(vectors) for b in vectors[: i + 1]]


def random_inputs(
    seed: int, n: int, n_models: int, dtypes: Sequence[str] = ("F32",)
) -> list[Input]:
    rng = np.random.default_rng(seed)
    chosen = [dtypes[i % len(dtypes)] for i in range(n_models + 1)]
    return [(dtype, weight_bits(rng, dtype, n)) for dtype in chosen]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("known", range(5))
def test_what_is_known_is_left_out_and_nothing_else_changes(known: int, exact: bool) -> None:
    inputs = random_inputs(3, BLOCK + 1000, 4, ("BF16", "F32"))
    whole = measured(inputs, exact=exact)
    rest = measured(inputs, exact=exact, known=known)
    assert rest.tobytes() == whole[:, known * (known + 1) // 2 :].tobytes()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_sizes_around_lanes_rows_and_blocks(n: int, wide: bool, exact: bool) -> None:
    inputs = random_inputs(n, n, 3, ("BF16", "F32", "F16", "F64"))
    for row, start in zip(
        measured(inputs, wide=wide, exact=exact), range(0, n, BLOCK), strict=True
    ):
        cut = [d[start : start + BLOCK] for d in deltas(inputs, wide=wide)]
        for got, (a, b) in zip(row, pairs_of(cut), strict=True):
            error = abs(got - fsum(a * b))
            assert error <= 1e-14 * np.linalg.norm(a) * np.linalg.norm(b)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("model", STORED)
@pytest.mark.parametrize("base", STORED)
def test_every_pair_of_dtypes(base: str, model: str, wide: bool) -> None:
    inputs = random_inputs(1, 1500, 2, (base, model))
    wanted = [fsum(a * b) for a, b in pairs_of(deltas(inputs, wide=wide))]
    np.testing.assert_allclose(measured(inputs, wide=wide)[0], wanted, rtol=1e-12, atol=1e-12)


def exact_product(a: NDArray[np.float64], b: NDArray[np.float64]) -> Fraction:
    """The inner product in whole numbers, in which no bit can be lost."""
    scale = 2**200
    whole = [[int(Fraction(x) * scale) for x in vector.tolist()] for vector in (a, b)]
    return Fraction(sum(x * y for x, y in zip(*whole, strict=True)), scale**2)


def cancelling(n: int, *, wide: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two vectors whose products cancel but for a hair: 2^-40 of the largest and less."""
    rng = np.random.default_rng(n)
    kind = np.float64 if wide else np.float32
    x, y = (rng.standard_normal(n).astype(kind).astype(float) for _ in range(2))
    order = rng.permutation(n)
    tiny = rng.standard_normal(n).astype(np.float32) * 2.0**-20
    a = np.concatenate([x, x[order], tiny])
    b = np.concatenate([y, -y[order], tiny])
    return a, b


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("n", [300, 1000, 20_000])
def test_compensated_sum_of_what_cancels(n: int, wide: bool) -> None:
    """Right to the last bits of float64 where the plain sum has a few left."""
    a, b = cancelling(n, wide=wide)
    dtype = "F64" if wide else "F32"
    inputs = [(dtype, bits_of(x, dtype)) for x in (np.zeros_like(a), a, b)]
    true = exact_product(a, b)
    exact, plain = (
        abs(Fraction(float(measured(inputs, wide=wide, exact=e)[0, 1])) - true)
        for e in (True, False)
    )
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    assert float(exact) <= 2.0**-52 * abs(float(true)) + 1e-27 * norms
    assert plain > 1000 * exact
    assert float(plain) <= 1e-14 * norms


def test_compensation_keeps_the_bits_of_one_product() -> None:
    """(1 + u)² - 1 - 2u is u², which no rounded product holds."""
    u = 2.0**-40
    inputs = [
        ("F64", bits_of(np.array(x), "F64")) for x in ([0, 0], [1 + u, 1], [1 + u, -1 - 2 * u])
    ]
    assert measured(inputs, wide=True, exact=True)[0, 1] == u * u
    assert measured(inputs, wide=True, exact=False)[0, 1] == 0.0


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_pair_has_the_same_bits_whoever_else_is_measured(wide: bool, exact: bool) -> None:
    inputs = random_inputs(7, 66_601, 10, ("BF16", "F16", "F32", "F64"))
    everyone = measured(inputs, wide=wide, exact=exact)
    for n_models in range(1, 10):
        fewer = measured(inputs[: n_models + 1], wide=wide, exact=exact)
        assert fewer.tobytes() == everyone[:, : fewer.shape[1]].tobytes()
    for i, h in ((3, 1), (9, 0), (8, 8)):
        two = measured([inputs[0], inputs[h + 1], inputs[i + 1]], wide=wide, exact=exact)
        turned = measured([inputs[0], inputs[i + 1], inputs[h + 1]], wide=wide, exact=exact)
        pair = everyone[:, i * (i + 1) // 2 + h].tobytes()
        assert two[:, 1].tobytes() == turned[:, 1].tobytes() == pair


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_blocks_have_the_same_bits_however_a_tensor_is_cut(wide: bool, exact: bool) -> None:
    n = 4 * BLOCK + 4321
    inputs = random_inputs(8, n, 2, ("BF16", "F32"))
    whole = measured(inputs, wide=wide, exact=exact).tobytes()
    for size in (1, 2, 3):
        parts = [
            measured(inputs, wide=wide, exact=exact, start=s, n=min(size * BLOCK, n - s))
            for s in range(0, n, size * BLOCK)
        ]
        assert np.concatenate(parts).tobytes() == whole


def test_threads_do_not_share_scratch_memory() -> None:
    """Some measure few models and some many, so that scratch memory grows meanwhile."""
    tasks = [random_inputs(i, 30_000, 1 + i % 5) for i in range(20)]
    alone = [measured(task, exact=True).tobytes() for task in tasks]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda task: measured(task, exact=True).tobytes(), tasks)
        assert list(together) == alone


def test_equal_models_have_no_deltas() -> None:
    inputs = random_inputs(9, 5000, 1)
    for wide, exact in product((False, True), repeat=2):
        assert not measured([inputs[0]] * 4, wide=wide, exact=exact).any()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_stay_visible(bad: float, exact: bool) -> None:
    """The caller stops on them; a plausible number would hide them."""
    x = np.ones(5000)
    x[4999] = bad
    inputs = [("F32", bits_of(v, "F32")) for v in (np.zeros(5000), x, np.ones(5000))]
    of_bad, beside_bad, of_good = measured(inputs, exact=exact)[0]
    assert not np.isfinite(of_bad)
    assert not np.isfinite(beside_bad)
    assert of_good == 5000.0


def test_nothing_to_measure_has_no_blocks() -> None:
    assert measured([("F32", np.empty(0, np.uint32))] * 2).shape == (0, 1)
