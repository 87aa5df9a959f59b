"""Which row stands in for a token, rule by rule, against mergekit's rules written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.sources.row_map import MEAN, PADDING, ZERO, RowMap
from mdm_kit.vocabulary import Fill, Filling, Owner, Vocabulary, joined

Row = tuple[int, ...] | tuple[tuple[int, int], ...] | str


def plain(rows: RowMap) -> list[Row]:
    """Each row as ('zero'), ('padding'), (owner, row) or the pairs that are averaged."""
    words = {ZERO: "zero", PADDING: "padding"}
    made: list[Row] = []
    for origin, row in zip(rows.origins.tolist(), rows.rows.tolist(), strict=True):
        made.append(rows.means[row] if origin == MEAN else words.get(origin) or (origin, row))
    return made


def expected(
    vocabulary: Vocabulary,
    owners: Sequence[Owner],
    rules: Mapping[str, Fill],
    n_rows: int,
    me: int,
    base: int | None,
) -> list[Row]:
    made: list[Row] = []
    for i in range(n_rows):
        token = vocabulary.by_id.get(i)
        if token is None:
            free = i < owners[me].rows and i not in owners[me].ids.values()
            made.append((me if free else 0, i) if i < owners[0].rows else "padding")
            continue
        have = {k: o.ids[token] for k, o in enumerate(owners) if o.ids.get(token, o.rows) < o.rows}
        rule = rules.get(token)
        if me in have and not (rule and rule.force):
            made.append((me, have[me]))
        elif rule is not None:
            made.append("zero" if rule.owner is None else (rule.owner, rule.row))
        elif not have:
            made.append("zero")
        elif base in have:
            made.append((base, have[base]))  # type: ignore[arg-type]
        elif len(have) == 1:
            made.append(next(iter(have.items())))
        else:
            made.append(tuple(have.items()))
    return made


@st.composite
def models(draw: st.DrawFn) -> list[Owner]:
    owners = []
    for _ in range(draw(st.integers(1, 4))):
        tokens = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True))
        gaps = draw(st.lists(st.integers(1, 2), min_size=len(tokens), max_size=len(tokens)))
        ids = dict(zip(tokens, (np.cumsum(gaps) - 1).tolist(), strict=True))
        owners.append(Owner(ids, draw(st.integers(1, max(ids.values()) + 3))))
    return owners


@settings(max_examples=40, deadline=None)
@given(models(), st.data())
def test_every_row_follows_the_rules(owners: list[Owner], data: st.DataObject) -> None:
    known = {f"m{i}": Vocabulary(o.ids, {}, "f") for i, o in enumerate(owners)}
    vocabulary = joined("m0", known, union=data.draw(st.booleans()), tokens=["new"]).vocabulary
    base = data.draw(st.sampled_from([None, 0, len(owners) - 1]))
    rules = data.draw(
        st.dictionaries(
            st.sampled_from(["a", "c", "new"]),
            st.builds(Fill, st.sampled_from([None, 0]), st.just(0), st.booleans()),
        )
    )
    n_rows = max(owners[0].rows, vocabulary.end) + data.draw(st.integers(0, 2))
    everyone = frozenset(range(len(owners)))
    filling = Filling(vocabulary, owners, rules, n_rows, donor=0, base=base, having=everyone)
    for me in everyone:
        assert plain(filling.map_of(me)) == expected(vocabulary, owners, rules, n_rows, me, base)


def test_a_union_appends_in_the_order_of_models_and_ids() -> None:
    known = {
        "base": Vocabulary({"a": 0, "b": 2}, {}, "f"),
        "one": Vocabulary({"z": 5, "y": 3, "a": 0}, {}, "f"),
        "two": Vocabulary({"y": 0, "x": 1}, {}, "f"),
    }
    result = joined("base", known, union=True, tokens=["b", "w"])
    assert result.vocabulary.ids == {"a": 0, "b": 2, "y": 3, "z": 4, "x": 5, "w": 6}
    assert [t.content for t in result.new] == ["y", "z", "x", "w"]
