"""A slice over every layer gives the bytes of the list of models."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import write_family

import mdm_kit

LISTED = """
merge_method: slerp
base_model: {root}/base
models:
  - model: {root}/base
  - model: {root}/m1
parameters: {{t: [{{filter: attn, value: [0, 1]}}, {{value: 0.5}}]}}
"""
SLICED = """
merge_method: slerp
base_model: {root}/base
slices:
  - sources:
      - {{model: {root}/base, layer_range: [0, {n}]}}
      - {{model: {root}/m1, layer_range: [{first}, {n}]}}
    parameters: {{t: [{{filter: attn, value: [0, 1]}}]}}
parameters: {{t: 0.5}}
"""


def test_the_same_bytes(tmp_path: Path) -> None:
    write_family(tmp_path, n=1)
    listed = mdm_kit.merge(LISTED.format(root=tmp_path), tmp_path / "listed")
    sliced = mdm_kit.merge(SLICED.format(root=tmp_path, n=3, first=0), tmp_path / "sliced")
    assert listed.shards == sliced.shards
    assert mdm_kit.verify(tmp_path / "sliced", deep=True).sound


@pytest.mark.parametrize(
    ("n", "first", "words"),
    [(4, 0, "base has 3 layers"), (3, 1, "same number of layers")],
)
def test_a_range_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, n: int, first: int, words: str
) -> None:
    write_family(tmp_path, n=1)
    with pytest.raises(mdm_kit.errors.RecipeError, match=words):
        mdm_kit.plan(SLICED.format(root=tmp_path, n=n, first=first))
