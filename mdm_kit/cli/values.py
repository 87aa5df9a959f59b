"""The table of `mdm-kit plan --explain`: which value each parameter has where."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdm_kit.planner.explaining import Row, Value
    from mdm_kit.planner.plan import Plan

MOST_NAMES = 3
"""Patterns of tensors that one row names."""


def show_values(made: Plan, title: str | None = None) -> None:
    """Print each parameter's value by model, tensors and layers, under a title if there is one."""
    from mdm_kit.cli.screen import console, table
    from mdm_kit.planner.explaining import explained
    from mdm_kit.words import shown

    rows = explained(made)
    if title is not None:
        console().print(f"{shown(title)}, {made.method}:")
    if not rows:
        console().print(f"{made.method} has no parameters")
        return
    n_models = len({name for row in rows for name in row.models})
    table(
        ("parameter", "model", "set by", "tensors", "layers", "value"),
        [
            (
                row.parameter,
                _models(row, n_models),
                row.source if row.filter is None else f"{row.source}, filter {row.filter}",
                _tensors(row),
                _spans(row.layers) or "all",
                _value(row),
            )
            for row in rows
        ],
    )
    n_copied = sum(write.apply() is None for write in made.writes)
    if n_copied:
        console().print(f"copied as they are, not being floating point: {n_copied:,} tensor(s)")


def _models(row: Row, n_models: int) -> str:
    if not row.models:
        return "the merge"
    return "every model" if len(row.models) == n_models > 1 else ", ".join(row.models)


def _tensors(row: Row) -> str:
    if row.tensors == ("*",):
        return "every tensor"
    more = len(row.tensors) - MOST_NAMES
    return ", ".join(row.tensors[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _spans(layers: Sequence[int]) -> str:
    """Return numbers as spans: `0-3, 5`."""
    spans = []
    for _, run in groupby(enumerate(layers), lambda pair: pair[1] - pair[0]):
        numbers = [layer for _, layer in run]
        spans.append(f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}")
    return ", ".join(spans)


def _value(row: Row) -> str:
    return " … ".join(dict.fromkeys(map(_said, row.values)))


def _said(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else f"{value:.6g}"
