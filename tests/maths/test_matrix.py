"""Matrices inside tensors, against numpy's views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrix_views import dense, uses

from mdm_kit.maths.matrix import Matrix

COUNTS = st.integers(1, 6)


@given(COUNTS, COUNTS, COUNTS)
def test_plain_and_turned_are_each_others_transpose(n: int, rows: int, columns: int) -> None:
    flat = np.arange(n * rows * columns)
    for i, stored in enumerate(flat.reshape(n, rows, columns)):
        start = i * rows * columns
        plain, turned = Matrix.plain(rows, columns, start), Matrix.turned(columns, rows, start)
        assert (plain.n_out, plain.n_in) == (rows, columns)
        assert (turned.n_out, turned.n_in) == (columns, rows)
        assert (dense(plain, flat) == stored).all()
        assert (dense(turned, flat) == stored.T).all()
        assert (dense(plain.transposed, flat) == stored.T).all()
        assert plain.transposed.transposed == plain


@given(
    sizes=st.lists(COUNTS, min_size=1, max_size=4),
    repeats=COUNTS,
    n_in=COUNTS,
    turned=st.booleans(),
)
def test_the_parts_share_the_rows_in_turn(
    sizes: list[int], repeats: int, n_in: int, turned: bool
) -> None:
    n_out = sum(sizes) * repeats
    whole = Matrix.turned(n_out, n_in) if turned else Matrix.plain(n_out, n_in)
    flat = np.arange(n_out * n_in)
    parts = whole.split(sizes, repeats)
    owners = np.tile(np.repeat(np.arange(len(sizes)), sizes), repeats)
    for i, part in enumerate(parts):
        assert part.n_out == sizes[i] * repeats
        assert (dense(part, flat) == dense(whole, flat)[owners == i]).all()
    assert (uses(parts, n_out * n_in) == 1).all()


@given(sizes=st.lists(COUNTS, min_size=1, max_size=4), repeats=COUNTS, n_in=COUNTS)
def test_plain_is_what_can_be_read_in_one_go(sizes: list[int], repeats: int, n_in: int) -> None:
    n_out = sum(sizes) * repeats
    flat = np.arange(n_out * n_in)
    for part in Matrix.plain(n_out, n_in).split(sizes, repeats):
        if part.is_plain:
            stop = part.start + part.n_out * n_in
            assert part.start % n_in == 0
            assert (dense(part, flat).ravel() == flat[part.start : stop]).all()
        else:
            assert repeats > 1
    assert all(part.is_plain for part in Matrix.plain(sum(sizes), n_in).split(sizes))


def test_what_is_not_plain() -> None:
    assert not Matrix.turned(3, 2).is_plain
    assert not Matrix.plain(3, 2, start=1).is_plain
    assert not any(part.is_plain for part in Matrix.plain(6, 2).split((1, 1), 3))


def test_sizes_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="8 output features are not 2 times"):
        Matrix.plain(8, 2).split((1, 2), 2)
