"""The ledger's numbers: parts of one another, the same on disk, and laws they cannot break."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.products import Products
from mdm_kit.ledger.removal import leak, residue
from mdm_kit.maths.orthogonal import Gram

NAMES = ("a", "b", "c", "d")


def gram_of(vectors: np.ndarray) -> Gram:
    n = len(vectors)
    return Gram(tuple(float(vectors[i] @ vectors[j]) for i in range(n) for j in range(i + 1)))


def products(seed: int = 0, n_tensors: int = 3, exact: tuple[str, ...] = ()) -> Products:
    rng = np.random.default_rng(seed)
    plain = {f"t{i}": gram_of(rng.standard_normal((4, 50))) for i in range(n_tensors)}
    sharp = {name: gram_of(rng.standard_normal((4, 50))) for name in exact}
    return Products(NAMES, plain, sharp, frozenset(["t1"]))


subsets = st.permutations(NAMES).flatmap(
    lambda names: st.integers(0, 4).map(lambda n: tuple(names[:n]))
)


@given(subsets, st.data())
def test_a_part_of_a_part_is_a_part(names: tuple[str, ...], data: st.DataObject) -> None:
    whole = products(exact=("t0",))
    inner = data.draw(st.permutations(names))
    assert whole.of(names).of(inner) == whole.of(inner)


@given(subsets)
def test_a_part_has_the_same_products(names: tuple[str, ...]) -> None:
    whole = products(exact=("t2",))
    part = whole.of(names)
    for of, kept in ((part.plain, whole.plain), (part.exact, whole.exact)):
        assert of.keys() == kept.keys()
        for tensor, gram in of.items():
            for i, a in enumerate(names):
                for j, b in enumerate(names):
                    assert gram.at(i, j) == kept[tensor].at(NAMES.index(a), NAMES.index(b))


def test_leading_models() -> None:
    whole = products()
    assert whole.leading(("a", "b", "x", "c")) == whole.of(("a", "b"))
    assert whole.leading(("x", "a")).models == ()
    assert whole.leading(("d", "a")) == whole.of(("d", "a"))


@pytest.mark.parametrize("exact", [(), ("t1",), ("t0", "t2")])
@pytest.mark.parametrize("n_tensors", [1, 3])
def test_what_is_written_is_read(exact: tuple[str, ...], n_tensors: int) -> None:
    wanted = products(1, n_tensors, tuple(e for e in exact if int(e[1]) < n_tensors))
    raw = wanted.to_bytes()
    assert Products.from_bytes(raw, wanted.entry(raw)) == wanted


def test_another_file_or_shape_is_refused() -> None:
    wanted = products(exact=("t0",))
    raw = wanted.to_bytes()
    entry = wanted.entry(raw)
    other = products(2).to_bytes()
    with pytest.raises(IntegrityError, match="its bytes were changed"):
        Products.from_bytes(other, entry)
    for wrong in (
        replace(entry, models=["a", "b"]),
        replace(entry, tensors=["t0", "t1"]),
        replace(entry, exact=["t0", "t1"]),
    ):
        with pytest.raises(IntegrityError, match="float64"):
            Products.from_bytes(raw, wrong)
    junk = b"no safetensors at all"
    with pytest.raises(IntegrityError, match="no ledger"):
        Products.from_bytes(junk, replace(wanted.entry(junk)))


@given(st.integers(0, 2**32 - 1))
def test_leak_is_the_distance_of_the_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = {f"t{i}": rng.standard_normal((4, 30)) for i in range(3)}
    grams = {name: gram_of(d) for name, d in tensors.items()}
    found = {name: tuple(rng.standard_normal(4)) for name in tensors}
    wanted = {name: (*rng.standard_normal(3), 0.0) for name in tensors}
    away = np.concatenate([(np.subtract(found[n], wanted[n])) @ d for n, d in tensors.items()])
    size = np.concatenate([np.array(wanted[n]) @ d for n, d in tensors.items()])
    assert leak(grams, found, wanted) == pytest.approx(
        np.linalg.norm(away) / np.linalg.norm(size), rel=1e-9
    )
    assert residue(found, 3) == max(abs(w[3]) for w in found.values())
    assert leak(grams, found, found) == 0.0
    nothing = dict.fromkeys(tensors, (0.0,) * 4)
    assert leak(grams, found, nothing) == 0.0


def test_a_ledger_is_a_safetensors_file_of_float64() -> None:
    raw = products(exact=("t0",)).to_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert {name: (e["dtype"], e["shape"]) for name, e in header.items()} == {
        "gram": ("F64", [3, 10]),
        "plain": ("F64", [1, 10]),
    }
