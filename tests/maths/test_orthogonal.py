"""The N x N algebra against numpy and against its own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdm_kit.maths.orthogonal import (
    ORTHOGONALISATIONS,
    Gram,
    gram_schmidt,
    lowdin,
    summed,
    symmetric_eigen,
)


def gram_of(deltas: np.ndarray) -> Gram:
    full = deltas @ deltas.T
    return Gram(tuple(float(full[i, j]) for i in range(len(deltas)) for j in range(i + 1)))


def full(gram: Gram) -> np.ndarray:
    return np.array([[gram.at(i, j) for j in range(gram.n)] for i in range(gram.n)])


families = st.tuples(
    st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.9])
).map(lambda a: correlated(*a))


def correlated(n: int, seed: int, share: float) -> np.ndarray:
    r = np.random.default_rng(seed)
    common = r.standard_normal(40)
    return math.sqrt(1 - share) * r.standard_normal((n, 40)) + math.sqrt(share) * common


@given(families)
@pytest.mark.parametrize("how", ["gram_schmidt", "lowdin"])
def test_components_are_orthogonal_and_span_what_the_deltas_span(
    how: str, deltas: np.ndarray
) -> None:
    """Theorem V.1 and Corollary V.2."""
    basis = ORTHOGONALISATIONS[how](gram_of(deltas))
    components = np.array(basis.matrix) @ deltas
    products = components @ components.T
    size = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    assert np.abs(products - np.diag(np.diag(products))).max() <= 1e-10 * size.max()
    assert np.allclose(np.diag(products), basis.q, rtol=1e-9)
    assert np.linalg.matrix_rank(np.vstack([deltas, components])) == len(deltas)


@given(families)
def test_gram_schmidt_is_the_textbooks(deltas: np.ndarray) -> None:
    components: list[np.ndarray] = []
    for d in deltas:
        components.append(d - sum((e @ d) / (e @ e) * e for e in components))
    assert np.allclose(
        np.array(gram_schmidt(gram_of(deltas)).matrix) @ deltas, components, atol=1e-9
    )


@given(families, st.integers(0, 100))
def test_lowdin_does_not_know_the_order_and_keeps_norms(deltas: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(deltas))
    plain = np.array(lowdin(gram_of(deltas)).matrix) @ deltas
    turned = np.array(lowdin(gram_of(deltas[order])).matrix) @ deltas[order]
    assert np.allclose(turned, plain[order], atol=1e-9)
    assert np.allclose(np.linalg.norm(plain, axis=1), np.linalg.norm(deltas, axis=1))


@given(families, st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_weights_fold_to_the_sum_of_components(deltas: np.ndarray, alpha: list[float]) -> None:
    for how in ORTHOGONALISATIONS.values():
        basis = how(gram_of(deltas))
        a = alpha[: len(deltas)]
        want = np.array(a) @ (np.array(basis.matrix) @ deltas)
        assert np.allclose(np.array(basis.weights(a)) @ deltas, want, atol=1e-9)


def test_a_copy_and_a_zero_have_no_component_and_disturb_nobody() -> None:
    r = np.random.default_rng(0)
    first, second = r.standard_normal((2, 30))
    deltas = np.array([first, np.zeros(30), first, second, 2 * first - second])
    basis = gram_schmidt(gram_of(deltas))
    assert basis.dependent == (1, 2, 4)
    components = np.array(basis.matrix) @ deltas
    assert np.array_equal(components[[1, 2, 4]], np.zeros((3, 30)))
    alone = np.array(gram_schmidt(gram_of(deltas[[0, 3]])).matrix) @ deltas[[0, 3]]
    assert np.allclose(components[[0, 3]], alone, atol=1e-12)


def test_lowdin_of_dependent_deltas_is_finite_and_says_so() -> None:
    first = np.arange(1.0, 6.0)
    basis = lowdin(gram_of(np.array([first, first, np.zeros(5)])))
    assert basis.dependent == (1, 2)
    assert np.isfinite(np.array(basis.matrix)).all()


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_near_collinear_deltas_keep_their_novelty(gap: float) -> None:
    r = np.random.default_rng(1)
    first = r.standard_normal(10_000)
    second = first + math.sqrt(2 * gap) * r.standard_normal(10_000)
    basis = gram_schmidt(gram_of(np.array([first, second])))
    assert not basis.dependent
    e = np.array(basis.matrix) @ np.array([first, second])
    assert abs(e[0] @ e[1]) <= 1e-7 / math.sqrt(gap) * np.linalg.norm(e[0]) * np.linalg.norm(e[1])


@given(st.integers(1, 9), st.integers(0, 1000))
def test_eigen_agrees_with_lapack(n: int, seed: int) -> None:
    m = np.random.default_rng(seed).standard_normal((n, n))
    m = m + m.T
    values, vectors = symmetric_eigen(m.tolist())
    assert np.allclose(sorted(values), np.linalg.eigvalsh(m), atol=1e-12 * n)
    v = np.array(vectors)
    assert np.allclose(v @ np.diag(values) @ v.T, m, atol=1e-12 * n)


def test_sums_of_grams_are_grams_of_concatenations() -> None:
    parts = [correlated(3, seed, 0.3) for seed in (1, 2, 3)]
    want = full(gram_of(np.concatenate(parts, axis=1)))
    assert np.allclose(full(summed([gram_of(p) for p in parts])), want, rtol=1e-13)


def test_largest_cosine_and_energy() -> None:
    gram = gram_of(np.array([[3.0, 0.0], [4.0, 4.0], [0.0, 0.0]]))
    assert gram.largest_cosine() == pytest.approx(math.sqrt(0.5))
    assert gram.energy([1.0, -1.0, 5.0]) == pytest.approx(17.0)
    assert Gram((0.0,)).largest_cosine() == 0.0
